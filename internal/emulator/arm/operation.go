package arm

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
)

// completion is how a client learns that a change is done.
type completion int

const (
	atOnce       completion = iota // with the answer
	byLocation                     // 202, and Location answers 202 until it is
	byOperation                    // Azure-AsyncOperation has a status
	byState                        // the resource's provisioningState
	byAcceptance                   // 202 without a body, and Azure-AsyncOperation and Location as above
)

// operation is a change as its client sees it: the work is done, but only the client's
// second request says so.
type operation struct {
	shows func() document // the result; nil: it was deleted
	err   error
	asked bool
}

// operationStatus is the body of an Azure-AsyncOperation.
type operationStatus struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"`
	Status string  `json:"status"`
	Error  *Detail `json:"error,omitempty"`
}

// complete answers a PUT or PATCH of a locked consumer.
func (s *Service) complete(how completion, c *consumer, made bool, err error) (Response, error) {
	var malformed *Error
	if err != nil && ((how != byOperation && how != byAcceptance) || errors.As(err, &malformed)) {
		return Response{}, err
	}
	state, status := "Updating", http.StatusOK
	if made {
		state, status = "Creating", http.StatusCreated
	}
	switch how {
	case atOnce:
		return Response{Status: http.StatusOK, Body: c.resource("Succeeded")}, nil
	case byState:
		c.settling = true
		return Response{Status: status, Body: c.resource("Accepted")}, nil
	case byLocation:
		if !made {
			return Response{Status: http.StatusOK, Body: c.resource("Succeeded")}, nil
		}
		return Response{Status: http.StatusAccepted, Header: s.begun(c.kind, c.id, &operation{shows: c.shown})}, nil
	case byAcceptance:
		return s.accepted(c.kind, c.id, &operation{shows: c.shown, err: err}), nil
	}
	header := s.begun(c.kind, c.id, &operation{shows: c.shown, err: err})
	return Response{Status: http.StatusOK, Header: header, Body: c.resource(state)}, nil
}

// accepted answers with nothing but where to ask for the result.
func (s *Service) accepted(k *kind, id string, o *operation) Response {
	return Response{Status: http.StatusAccepted, Header: s.begun(k, id, o)}
}

// deleted answers a DELETE.
func (s *Service) deleted(k *kind, p place) Response {
	if k.puts == byLocation { // storage accounts go at once
		return Response{Status: http.StatusOK}
	}
	return Response{Status: http.StatusAccepted, Header: s.begun(k, p.scope, &operation{})}
}

// begun stores an operation and returns the headers that lead to it.
func (s *Service) begun(k *kind, id string, o *operation) map[string]string {
	name := rand.Text()
	s.mu.Lock()
	s.operations[name] = o
	s.mu.Unlock()
	namespace, _, _ := strings.Cut(k.path, "/")
	subscription := strings.Join(strings.Split(id, "/")[:3], "/")
	url := s.origin() + subscription + "/providers/" + namespace + "/locations/westeurope/"
	const version = "?api-version=2025-01-01"
	h := map[string]string{"Location": url + "operationresults/" + name + version, "Retry-After": "1"}
	if k.puts == byOperation || k.puts == byAcceptance {
		h["Azure-AsyncOperation"] = url + "operations/" + name + version
	}
	return h
}

// follow answers a client's poll of its operation.
func (s *Service) follow(p place) (Response, error) {
	s.mu.Lock()
	o := s.operations[p.operation]
	pending := o != nil && !o.asked
	if o != nil {
		o.asked = true
	}
	s.mu.Unlock()
	switch {
	case o == nil:
		return Response{}, refuse(http.StatusNotFound, "NotFound", "There is no operation %s.", p.operation)
	case p.result:
		return o.result(pending)
	}
	status := operationStatus{ID: p.scope + "/operations/" + p.operation, Name: p.operation, Status: "Succeeded"}
	switch {
	case pending:
		status.Status = "InProgress"
	case o.err != nil:
		d := keyRefused(o.err).detail()
		status.Status, status.Error = "Failed", &d
	}
	return Response{Status: http.StatusOK, Body: status, Header: map[string]string{"Retry-After": "1"}}, nil
}

func (o *operation) result(pending bool) (Response, error) {
	switch {
	case pending:
		return Response{Status: http.StatusAccepted, Header: map[string]string{"Retry-After": "1"}}, nil
	case o.err != nil:
		return Response{}, o.err
	case o.shows == nil:
		return Response{Status: http.StatusNoContent}, nil
	}
	return Response{Status: http.StatusOK, Body: o.shows()}, nil
}
