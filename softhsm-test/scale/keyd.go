package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/keyd-project/keyd/softhsm-test/measure"
)

// keyd is one `keyd run` with its HSM side.
type keyd struct {
	cmd   *exec.Cmd
	began time.Time
	ended chan struct{} // closed when it has
	err   error         // how it ended
}

// start starts the program, "keyd" or "keyd-fast". It ends with the thread that started it.
func (w *world) start(name string, env ...string) error {
	log, err := os.OpenFile(w.path("keyd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	k := &keyd{ended: make(chan struct{}), began: time.Now()}
	k.cmd = exec.Command(w.path(name), "run", "--config", w.path("keyd.yaml"))
	k.cmd.Env, k.cmd.Stdout, k.cmd.Stderr = slices.Concat(w.env, env), log, log
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := k.cmd.Start(); err != nil {
		return fmt.Errorf("start keyd: %w", err)
	}
	go func() {
		k.err = k.cmd.Wait()
		close(k.ended)
	}()
	w.keyd = k
	return nil
}

func (k *keyd) pid() int { return k.cmd.Process.Pid }

// stop ends keyd as systemd would.
func (w *world) stop(ctx context.Context) error {
	k := w.keyd
	_ = k.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-k.ended:
	case <-time.After(time.Minute):
		return errors.New("keyd did not end within a minute of SIGTERM")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	w.keyd = nil
	if k.err != nil {
		return fmt.Errorf("keyd did not end cleanly: %w", k.err)
	}
	return nil
}

// kill ends keyd at once; its HSM side ends with it.
func (k *keyd) kill() error {
	_ = k.cmd.Process.Kill()
	<-k.ended
	return nil
}

// command runs one of keyd's commands to its end.
func (w *world) command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, w.path("keyd"), append(args, "--socket", w.path("keyd.sock"))...)
	cmd.Env = w.env
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("keyd %s: %w: %s", strings.Join(args, " "), err, said)
	}
	return nil
}

// get reads from keyd's listener.
func (w *world) get(ctx context.Context, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.address+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// ready reports whether keyd says that it is.
func (w *world) ready(ctx context.Context) bool {
	status, _, err := w.get(ctx, "/readyz")
	return err == nil && status == http.StatusOK
}

// readySince is the moment at which keyd became ready, by its log.
func (w *world) readySince() (ready time.Time, err error) {
	log, err := os.ReadFile(w.path("keyd.log"))
	if err != nil {
		return ready, err
	}
	for line := range strings.Lines(string(log)) {
		var entry struct {
			Time time.Time
			Msg  string
		}
		if json.Unmarshal([]byte(line), &entry) == nil && strings.HasPrefix(entry.Msg, "ready:") {
			ready = entry.Time
		}
	}
	if ready.IsZero() {
		err = errors.New("keyd.log does not say when keyd was ready")
	}
	return ready, err
}

// scrape is one scrape of keyd's metrics.
type scrape struct {
	families map[string]*dto.MetricFamily
	took     time.Duration
	bytes    int
}

func (w *world) scrape(ctx context.Context) (s scrape, err error) {
	began := time.Now()
	status, body, err := w.get(ctx, "/metrics")
	s.took, s.bytes = time.Since(began), len(body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return s, fmt.Errorf("scrape keyd: %w", err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	s.families, err = parser.TextToMetricFamilies(bytes.NewReader(body))
	return s, err
}

// by adds up the samples of a counter, or the counts of a histogram, by the values of a label.
func (s scrape) by(name, label string) measure.Kinds {
	found := measure.Kinds{}
	for _, m := range s.families[name].GetMetric() {
		found[labelOf(m, label)] += int(m.GetCounter().GetValue()) + int(m.GetHistogram().GetSampleCount())
	}
	return found
}

// total is by for one value of the label.
func (s scrape) total(name, label, value string) int { return s.by(name, label)[value] }

// series counts the lines of a scrape: all, and those that name a key.
func (s scrape) series() (all, ofKeys int) {
	for _, f := range s.families {
		for _, m := range f.GetMetric() {
			n := 1
			if h := m.GetHistogram(); h != nil {
				n = len(h.GetBucket()) + 2 // the sum and the count
			}
			all += n
			if labelOf(m, "key") != "" {
				ofKeys += n
			}
		}
	}
	return all, ofKeys
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
