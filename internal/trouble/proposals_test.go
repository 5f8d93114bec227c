package trouble

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// proposed has an act about the key wait for a second operator.
func (w *world) proposed(since time.Duration) {
	w.Proposals = []status.Proposal{{Proposal: key.Proposal{ID: "4f1d3b6c8a2e4d0f9b7c5a3e1d0f2b4c",
		Act: key.Act{Kind: key.ActResume, Key: w.Keys[0].Name}, By: key.Person{Actor: "uid 1000 (anna)"},
		Since: noon.Add(-since), Until: noon.Add(24*time.Hour - since)}}}
}

// settingsWait has settings of the files wait for a second operator.
func (w *world) settingsWait(since time.Duration, login string) {
	w.proposed(since)
	w.Unapproved = 2
	w.Proposals[0].Kind, w.Proposals[0].Key = key.ActConfigure, ""
	w.Proposals[0].By.Login = login
}
