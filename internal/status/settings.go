package status

// Settings are the guarded settings in force: who may act, where keys go, what keyd may disable.
type Settings struct {
	// NeedsApproval: a change of them needs a second operator.
	NeedsApproval bool `json:"needs_approval"`
	// InForce has them as the audit states them, by what they are about ("": keyd itself) and by their names.
	InForce map[string]map[string]string `json:"in_force"`
}
