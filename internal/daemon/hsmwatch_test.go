package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// The state shown for the HSM side is never newer than its last answer, and each of its three states has its own
// beginning.
func TestEachStateOfTheHSMSideHasItsAgeAndItsReason(t *testing.T) {
	d, _ := newDaemon(t)
	synctest.Test(t, func(t *testing.T) {
		refused := key.HSMInfo{Token: "keyd", PINRefused: true, Degraded: "the token refused the PIN"}
		begun := time.Now()
		for _, c := range []struct {
			info        key.HSMInfo
			err         error
			state       string
			trouble     string
			since, seen time.Duration // after begun
		}{
			{refused, nil, status.HSMDegraded, "the token refused the PIN", 0, 0},
			{refused, nil, status.HSMDegraded, "the token refused the PIN", 0, 10 * time.Second},
			{key.HSMInfo{}, errors.New("gone"), status.HSMDown, "gone", 20 * time.Second, 10 * time.Second},
			{key.HSMInfo{}, errors.New("still gone"), status.HSMDown, "still gone", 20 * time.Second, 10 * time.Second},
			{key.HSMInfo{Token: "keyd"}, nil, status.HSMUp, "", 40 * time.Second, 40 * time.Second},
			{refused, nil, status.HSMDegraded, "the token refused the PIN", 50 * time.Second, 50 * time.Second},
		} {
			d.noteHSM(c.info, c.err)
			h := d.hsmStatus()
			if h.State() != c.state || h.Trouble() != c.trouble || h.Info.Token != "keyd" {
				t.Errorf("%+v is %s (%s), want %s (%s)", h, h.State(), h.Trouble(), c.state, c.trouble)
			}
			if h.Since.Sub(begun) != c.since || h.SeenAt.Sub(begun) != c.seen {
				t.Errorf(
					"%s since %v, seen %v; want %v, %v",
					h.State(),
					h.Since.Sub(begun),
					h.SeenAt.Sub(begun),
					c.since,
					c.seen,
				)
			}
			time.Sleep(10 * time.Second)
		}
	})
}

func TestStatusDoesNotCallAnUnaskedHSMSideDown(t *testing.T) {
	d, _ := newDaemon(t)
	if h := d.hsmStatus(); h.State() != status.HSMUnasked || h.Trouble() != "" {
		t.Errorf("%+v is %s", h, h.State())
	}
}

// Here the HSM side is a child that ends at once and says nothing.
func TestACheckOfAChildShowsWhyItEndedAndNamesNoService(t *testing.T) {
	d, _ := newDaemonOf(t, smallConfig) // without a vault, which keyd would call
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- d.sup.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	l := checkedFor(ctx, t, d, "hsm", "answers")
	if l.Result != status.CheckFailed {
		t.Fatalf("%+v", l)
	}
	if !strings.Contains(l.Detail, "exit status 1") || strings.Contains(l.Detail, "reset by peer") {
		t.Errorf("the reason is %q", l.Detail)
	}
	if strings.Contains(l.Remedy, "keyd-hsm") || !strings.Contains(l.Remedy, "journalctl -u keyd") {
		t.Errorf("the remedy is %q", l.Remedy)
	}
}

func TestSystemdGetsTheHSMSidesStateInOneLine(t *testing.T) {
	for info, want := range map[*key.HSMInfo]string{
		{Token: "keyd"}: "serving token keyd",
		{}:              "serving token 1b3f",
		{Token: "keyd", Degraded: "not logged in"}: "degraded: not logged in",
	} {
		if got := hsmLine(*info, "1b3f"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	systemd := listenAsSystemd(t)
	notifyStatus("ended: one\ntwo")
	systemd.until("STATUS=ended: one two")
}
