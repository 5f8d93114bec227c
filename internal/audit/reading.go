package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
)

// onlyReading reads an entry's content, and accepts it only if it can be read in one way: also what is JSON within it.
func onlyReading(text []byte) (chain.Entry, error) {
	e, _, err := chain.ParseBody(text)
	if adopted, ok := e.Fields[chain.FieldAdopted]; ok && err == nil {
		if err := unambiguous(adopted); err != nil {
			return e, fmt.Errorf("what it says of the adoption cannot be read in one way only: %w", err)
		}
	}
	return e, err
}

// unambiguous requires JSON without blanks, and without a name that an object has twice, in whatever case. It does not
// know the names, because later versions of keyd may write others.
func unambiguous(text string) error {
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(text)); err != nil {
		return err
	}
	if compact.String() != text {
		return errors.New("it has blanks")
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	first, err := dec.Token()
	if err != nil {
		return err
	}
	return unambiguousValue(dec, first)
}

// unambiguousValue reads the rest of a value that begins with this token.
func unambiguousValue(dec *json.Decoder, first json.Token) error {
	open, nested := first.(json.Delim)
	if !nested {
		return nil
	}
	names := map[string]bool{}
	for dec.More() {
		next, err := dec.Token()
		if err != nil {
			return err
		}
		if name, ok := next.(string); ok && open == '{' {
			folded := strings.ToLower(strings.ToUpper(name)) // as letters match without regard to case
			if names[folded] {
				return fmt.Errorf("the name %q comes twice", name)
			}
			names[folded] = true
			if next, err = dec.Token(); err != nil {
				return err
			}
		}
		if err := unambiguousValue(dec, next); err != nil {
			return err
		}
	}
	_, err := dec.Token() // its end
	return err
}
