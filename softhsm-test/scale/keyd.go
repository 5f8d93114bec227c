package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
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
func (s scrape) by(name, label string) byKind {
	found := byKind{}
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

// usage is what a process has used: of the processor since its start, and of memory now and at most.
type usage struct {
	cpu         time.Duration
	memory, max int // KiB
}

// sides are the usages of the network side and of the HSM side.
type sides struct{ network, hsm usage }

func (k *keyd) usage() (u sides, err error) {
	pid := k.cmd.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	threads, globErr := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err := errors.Join(err, globErr); err != nil {
		return u, err
	}
	for _, t := range threads { // the thread that started it is its parent
		more, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		if err == nil {
			children = append(append(children, ' '), more...)
		}
	}
	fields := strings.Fields(string(children))
	if len(fields) == 0 {
		return u, errors.New("keyd has no HSM side")
	}
	child, err := strconv.Atoi(fields[0])
	if err != nil {
		return u, err
	}
	if u.network, err = usageOf(pid); err != nil {
		return u, err
	}
	u.hsm, err = usageOf(child)
	return u, err
}

const ticks = 100 // a second: USER_HZ, which is the same on every machine that Linux runs on today

func usageOf(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	status, statusErr := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err := errors.Join(err, statusErr); err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third on: proc(5)
	for _, i := range []int{11, 12} {                                         // utime, stime
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(n) * time.Second / ticks
	}
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &u.memory)
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &u.max)
	}
	return u, nil
}
