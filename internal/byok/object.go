package byok

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// readObject reads one JSON object with nothing after it. All its fields must be among known, spelled exactly so, and
// none may repeat: encoding/json would accept each of these, and two readers could then see two different blobs.
func readObject(data []byte, known ...string) (map[string]json.RawMessage, error) {
	if len(data) == 0 {
		return nil, errors.New("missing")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	open, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if open != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		name, ok := token.(string)
		if !ok {
			return nil, errors.New("not JSON: a field's name is not a string")
		}
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown field %q: the specification has %s", name, strings.Join(known, ", "))
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("field %q appears twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("field %q is not JSON: %w", name, err)
		}
		fields[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the JSON document")
	}
	return fields, nil
}

func readString(object map[string]json.RawMessage, field string) (string, error) {
	raw, ok := object[field]
	if !ok {
		return "", fmt.Errorf("field %q is missing", field)
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", fmt.Errorf("field %q is not a string", field)
	}
	return *s, nil
}
