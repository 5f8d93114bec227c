package arm

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

const maxBody = 1 << 20

// AdminHandler is for tests in other processes:
//
//	GET /consumers                       a Report: what each can and cannot read, and why
//	POST /consumers                      a spec, as ParseSpec parses it; 202 says what it waits for
//	POST /consumers/poll                 who is due looks for new versions; ?all=true: everyone
//	POST /consumers/NAME/write           the body is encrypted and kept; 409 says why it cannot be
//	POST /consumers/NAME/backup?keep=24h what is there is kept for so long as it is
//	POST /consumers/NAME/pause           it looks for no new version; ?off=true: it does again
//	POST /consumers/NAME/claim?version=V it shows V as the version in use; without a version, the truth
//	POST /resources                      JSON of a Resource of any other type
func (s *Service) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /consumers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(s.ReadEverything(r.Context())); err != nil {
			s.cfg.Logger.Debug("the admin client did not read the answer", "error", err)
		}
	})
	mux.HandleFunc("POST /consumers", withBody(func(r *http.Request, body []byte) (int, error) {
		spec, err := ParseSpec(string(body))
		if err != nil {
			return http.StatusBadRequest, err
		}
		return http.StatusAccepted, s.Make(r.Context(), spec)
	}))
	mux.HandleFunc("POST /resources", withBody(func(_ *http.Request, body []byte) (int, error) {
		var r Resource
		if err := json.Unmarshal(body, &r); err != nil || r.ID == "" || r.Type == "" {
			return http.StatusBadRequest, fmt.Errorf("write a resource with ID and Type: %w", err)
		}
		s.AddResource(r)
		return 0, nil
	}))
	mux.HandleFunc("POST /consumers/poll", withBody(func(r *http.Request, _ []byte) (int, error) {
		if r.URL.Query().Get("all") == "true" {
			s.PollNow(r.Context())
		} else {
			s.Poll(r.Context())
		}
		return 0, nil
	}))
	mux.HandleFunc("POST /consumers/{name}/write", withBody(func(r *http.Request, body []byte) (int, error) {
		return http.StatusConflict, s.Write(r.Context(), r.PathValue("name"), body)
	}))
	mux.HandleFunc("POST /consumers/{name}/pause", withBody(func(r *http.Request, _ []byte) (int, error) {
		return http.StatusNotFound, s.Pause(r.PathValue("name"), r.URL.Query().Get("off") != "true")
	}))
	mux.HandleFunc("POST /consumers/{name}/claim", withBody(func(r *http.Request, _ []byte) (int, error) {
		return http.StatusNotFound, s.Claim(r.PathValue("name"), r.URL.Query().Get("version"))
	}))
	mux.HandleFunc("POST /consumers/{name}/backup", withBody(func(r *http.Request, _ []byte) (int, error) {
		keep, err := time.ParseDuration(r.URL.Query().Get("keep"))
		if err != nil {
			return http.StatusBadRequest, err
		}
		return http.StatusNotFound, s.Backup(r.PathValue("name"), keep)
	}))
	return mux
}

// withBody answers 204, or the error with its status.
func withBody(do func(*http.Request, []byte) (int, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if status, err := do(r, body); err != nil {
			http.Error(w, err.Error(), status)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}
