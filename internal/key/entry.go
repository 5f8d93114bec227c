package key

import "time"

// Entry is one event of the audit chain. The store numbers and chains it.
type Entry struct {
	Time   time.Time         `json:"time"`
	Key    string            `json:"key"`
	Event  string            `json:"event"` // such as "generation reserved", "import intended"
	Actor  string            `json:"actor"` // "keyd", "schedule", or "uid N (name)"
	Fields map[string]string `json:"fields,omitempty"`
}
