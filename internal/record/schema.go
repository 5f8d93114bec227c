package record

import (
	"encoding/json"
	"fmt"
)

// SchemaVersion is the version of Record's form. A record of a newer one is refused.
const SchemaVersion = 2

// FromSchema1 turns the JSON of a record of schema 1 into that of schema 2. In schema 1 a lifted refutation was a
// refuted placement with a mark, and a disabling under way was a superseded one with a time.
func FromSchema1(old json.RawMessage) (json.RawMessage, error) {
	var r map[string]any
	if err := json.Unmarshal(old, &r); err != nil {
		return nil, fmt.Errorf("read a record of schema 1: %w", err)
	}
	r["schema"] = SchemaVersion
	for _, g := range list(r["generations"]) {
		for _, p := range list(g["placements"]) {
			if p["lifted"] == true && p["state"] == "refuted" {
				p["state"] = "lifted"
			}
			delete(p, "lifted")
			if p["disable_begun"] != nil && p["state"] == "superseded" {
				p["state"] = "disabling"
			}
		}
	}
	return json.Marshal(r)
}

// list is a list of objects, as encoding/json reads it; what is none is left out.
func list(v any) (objects []map[string]any) {
	values, _ := v.([]any)
	for _, x := range values {
		if o, ok := x.(map[string]any); ok {
			objects = append(objects, o)
		}
	}
	return objects
}
