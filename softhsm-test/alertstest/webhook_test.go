//go:build alerts

package alertstest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// alert is an alert in version 4 of Alertmanager's webhook message.
type alert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// webhook receives Alertmanager's alerts: the path is the receiver.
type webhook struct {
	server *httptest.Server
	mu     sync.Mutex
	got    map[string][]alert // by path
	told   []message          // in order
}

// message is one notification.
type message struct {
	Version  string  `json:"version"`
	GroupKey string  `json:"groupKey"`
	Status   string  `json:"status"`
	Alerts   []alert `json:"alerts"`
	receiver string
}

func newWebhook(t *testing.T) *webhook {
	t.Helper()
	h := &webhook{got: map[string][]alert{}}
	h.server = httptest.NewServer(http.HandlerFunc(h.serve))
	t.Cleanup(h.server.Close)
	return h
}

func (h *webhook) url(path string) string { return h.server.URL + path }

func (h *webhook) serve(w http.ResponseWriter, r *http.Request) {
	m := message{receiver: r.URL.Path}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil || m.Version != "4" {
		http.Error(w, "not a message of version 4", http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got[m.receiver] = append(h.got[m.receiver], m.Alerts...)
	h.told = append(h.told, m)
}

// count is how many notifications there were so far.
func (h *webhook) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.told)
}

// pages names the receiver and the alert of each group of which somebody was told since then that it fires. More of the
// same group is the same page.
func (h *webhook) pages(since int) (all []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]bool{}
	for _, m := range h.told[since:] {
		if m.Status == "firing" && !seen[m.GroupKey] {
			seen[m.GroupKey] = true
			all = append(all, m.receiver+" "+m.Alerts[0].Labels["alertname"])
		}
	}
	return all
}

// wait waits for an alert with all of these labels, in this status, at a receiver.
func (h *webhook) wait(t *testing.T, receiver, status string, labels map[string]string) (found alert) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s learns that %v is %s", receiver, labels, status), func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, a := range h.got[receiver] {
			if a.Status == status && contains(a.Labels, labels) {
				found = a
				return nil
			}
		}
		return fmt.Errorf("it received: %v", h.got)
	})
	return found
}

func contains(all, some map[string]string) bool {
	for name, value := range some {
		if all[name] != value {
			return false
		}
	}
	return true
}

// wantAlert requires the labels, and an annotation that names each of the words.
func wantAlert(t *testing.T, a alert, labels map[string]string, summary ...string) {
	t.Helper()
	if !maps.Equal(a.Labels, labels) {
		t.Errorf("labels %v, want %v", a.Labels, labels)
	}
	for _, word := range summary {
		if !strings.Contains(a.Annotations["summary"], word) {
			t.Errorf("the summary %q does not name %s", a.Annotations["summary"], word)
		}
	}
}
