package consumer

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/keyd-project/keyd/internal/vault"
)

// everyDepth has onlyOnce look at every object.
const everyDepth = -1

// onlyOnce refuses a JSON text in which an object has a field twice, in whatever case: nobody can say which of the two
// counts. Whatever is deeper than so many objects and lists is skipped. The text must be valid.
func onlyOnce(text []byte, depth int) error {
	twice, err := twiceIn(json.NewDecoder(bytes.NewReader(text)), depth)
	switch {
	case err != nil:
		return badAnswerf("%v", err)
	case twice != "":
		return badAnswerf("it has the field %q twice", vault.OneLine(twice))
	}
	return nil
}

// twiceIn reads one value, and returns a name that is there twice; "": there is none.
func twiceIn(d *json.Decoder, depth int) (twice string, err error) {
	if depth == 0 {
		return "", d.Decode(new(json.RawMessage))
	}
	opening, err := d.Token()
	if _, inner := opening.(json.Delim); err != nil || !inner {
		return "", err
	}
	for names := map[string]bool{}; d.More(); {
		if opening == json.Delim('{') {
			name, err := d.Token()
			if err != nil {
				return "", err
			}
			text, _ := name.(string)
			same := strings.ToLower(strings.ToUpper(text)) // as encoding/json and EqualFold compare
			if names[same] {
				twice = text
			}
			names[same] = true
		}
		inner, err := twiceIn(d, depth-1)
		if err != nil {
			return "", err
		}
		if inner != "" {
			twice = inner
		}
	}
	_, err = d.Token()
	return twice, err
}
