package etcdtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Member is one process of a cluster.
type Member struct {
	Name string
	URL  string // for clients

	cluster   *Cluster
	command   []string
	args      []string
	peer      string
	data, log string

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone
}

// Launch starts the process, with what it has on its disk, and does not wait until it answers.
func (m *Member) Launch() error {
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		return fmt.Errorf("etcd is not installed: run make deps (%w)", err)
	}
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	argv := append(append(append([]string(nil), m.command...), etcd), m.args...)
	m.cmd = exec.Command(argv[0], argv[1:]...)
	m.cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // etcd takes every ETCD_… variable for an argument
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended, started := make(chan struct{}), make(chan error)
	go func(cmd *exec.Cmd) { // on a thread that lives as long as the member: see Pdeathsig
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}(m.cmd)
	err = <-started
	_ = log.Close()
	if err != nil {
		m.cmd = nil
		return err
	}
	m.ended = ended
	return nil
}

// ready waits until the member answers, and has a leader.
func (m *Member) ready() error {
	return until(m.Name+" is healthy", func() (bool, error) {
		select {
		case <-m.ended:
			return false, fmt.Errorf("%s ended: %s", m.Name, tail(m.log))
		default:
			return m.Healthy(), nil
		}
	})
}

// Healthy reports whether the member answers and the cluster has a leader.
func (m *Member) Healthy() bool {
	transport := &http.Transport{TLSClientConfig: m.cluster.client, DisableKeepAlives: true}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL+"/health", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return false
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return strings.Contains(string(body), `"health":"true"`)
}

// Start launches the member again, and waits until it is healthy.
func (m *Member) Start() error {
	if err := m.Launch(); err != nil {
		return err
	}
	return m.ready()
}

// Stop ends the member as an operator does.
func (m *Member) Stop() { m.end(syscall.SIGTERM) }

// Kill ends the member as a crash does, also while it is paused.
func (m *Member) Kill() { m.end(syscall.SIGKILL) }

// Pause has the member do nothing, while its connections stay open.
func (m *Member) Pause() { m.signal(syscall.SIGSTOP) }

// Continue has a paused member go on.
func (m *Member) Continue() { m.signal(syscall.SIGCONT) }

func (m *Member) signal(s syscall.Signal) {
	if m.cmd != nil {
		_ = m.cmd.Process.Signal(s)
	}
}

func (m *Member) end(s syscall.Signal) {
	if m.cmd == nil {
		return
	}
	m.signal(s)
	<-m.ended
	m.cmd = nil
}
