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
	var message struct {
		Version string  `json:"version"`
		Alerts  []alert `json:"alerts"`
	}
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil || message.Version != "4" {
		http.Error(w, "not a message of version 4", http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got[r.URL.Path] = append(h.got[r.URL.Path], message.Alerts...)
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
