package arm

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// Host is Resource Manager's name in the public cloud.
const Host = "management.azure.com"

// Request is a call to Resource Manager whose token was accepted.
type Request struct {
	Method string
	Path   string // without the query
	Query  url.Values
	Body   []byte
}

// Response is its answer.
type Response struct {
	Status int
	Header map[string]string
	Body   any // for JSON; nil: none
}

var apiVersion = regexp.MustCompile(`^20[0-9]{2}-[0-9]{2}-[0-9]{2}(-preview)?$`)

// place is the resource that a path names.
type place struct {
	scope     string // what is before /providers/
	path      string // provider and type
	name      string // "": all of the type
	operation string // id of an operation, instead of a name
	result    bool   // a request for the operation's result, not its status
}

// parsePlace reads …/providers/NAMESPACE/TYPE[/NAME] and
// …/providers/NAMESPACE/locations/LOCATION/operation(s|results)/ID.
func parsePlace(path string) (place, bool) {
	i := strings.LastIndex(strings.ToLower(path), "/providers/")
	if i < 0 || !strings.HasPrefix(strings.ToLower(path), "/subscriptions/") {
		return place{}, false
	}
	segments := strings.Split(strings.Trim(path[i+len("/providers/"):], "/"), "/")
	p := place{scope: path[:i]}
	switch {
	case len(segments) == 2:
		p.path = segments[0] + "/" + segments[1]
	case len(segments) == 3:
		p.path, p.name = segments[0]+"/"+segments[1], segments[2]
	case len(segments) == 5 && strings.EqualFold(segments[1], "locations"):
		p.operation, p.result = segments[4], strings.EqualFold(segments[3], "operationresults")
	default:
		return place{}, false
	}
	return p, true
}

// Handle answers one request.
func (s *Service) Handle(ctx context.Context, r Request) Response {
	resp, err := s.handle(ctx, r)
	if err != nil {
		return failed(err)
	}
	return resp
}

func failed(err error) Response {
	var own *Error
	if !errors.As(err, &own) {
		own = keyRefused(err)
	}
	return Response{Status: own.Status, Body: map[string]Detail{"error": own.detail()}}
}

func (s *Service) handle(ctx context.Context, r Request) (Response, error) {
	if v := r.Query.Get("api-version"); !apiVersion.MatchString(v) {
		return Response{}, refuse(http.StatusBadRequest, "MissingApiVersionParameter",
			"The api-version query parameter (?api-version=) is required for all requests, and is a date; this "+
				"one is %q.", v)
	}
	if asksForSubscriptions(r.Path) {
		return s.subscriptions(r.Method)
	}
	p, ok := parsePlace(r.Path)
	if !ok {
		return Response{}, refuse(http.StatusNotFound, "NotFound", "The emulator does not know the path %s.", r.Path)
	}
	if p.operation != "" {
		return s.follow(p)
	}
	k := kindOfPath(p.path)
	if k == nil {
		return Response{}, refuse(http.StatusBadRequest, "InvalidResourceType",
			"The emulator has no resources of type %s; it has %s.", p.path, strings.Join(kindPaths(), ", "))
	}
	if p.name == "" {
		return s.list(k, p, r.Method)
	}
	return s.one(ctx, k, p, r)
}

func kindPaths() (paths []string) {
	for _, k := range kinds {
		paths = append(paths, k.path)
	}
	return paths
}

// list answers for a subscription or a resource group, without pages.
func (s *Service) list(k *kind, p place, method string) (Response, error) {
	if method != http.MethodGet {
		return Response{}, notAllowed(method)
	}
	found := []document{}
	for _, c := range s.all() {
		if c.kind == k && strings.HasPrefix(strings.ToLower(c.id), strings.ToLower(p.scope)+"/") {
			found = append(found, c.shown())
		}
	}
	return Response{Status: http.StatusOK, Body: map[string]any{"value": found}}, nil
}

func (s *Service) one(ctx context.Context, k *kind, p place, r Request) (Response, error) {
	id := p.scope + "/providers/" + k.path + "/" + p.name
	c := s.find(id)
	switch {
	case r.Method == http.MethodPut || (r.Method == http.MethodPatch && c != nil):
		return s.put(ctx, k, id, p.name, r)
	case c == nil && r.Method == http.MethodDelete:
		return Response{Status: http.StatusNoContent}, nil
	case c == nil:
		return Response{}, refuse(http.StatusNotFound, "ResourceNotFound",
			"The Resource '%s/%s' under '%s' was not found. For more details please go to "+
				"https://aka.ms/ARMResourceNotFoundFix", k.path, p.name, p.scope)
	case r.Method == http.MethodGet:
		return Response{Status: http.StatusOK, Body: c.shown()}, nil
	case r.Method == http.MethodHead:
		return Response{Status: http.StatusNoContent}, nil
	case r.Method == http.MethodDelete:
		s.remove(c)
		return s.deleted(k, p), nil
	}
	return Response{}, notAllowed(r.Method)
}

func notAllowed(method string) error {
	return refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The method %s is not emulated here.", method)
}

func (c *consumer) shown() document {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := "Succeeded"
	if c.settling {
		state, c.settling = "Accepted", false
	}
	return c.resource(state)
}

// put creates or changes a resource. It reports a problem with the key at once or, for
// services that complete later, as the operation's result.
func (s *Service) put(ctx context.Context, k *kind, id, name string, r Request) (Response, error) {
	body, err := parseDocument(r.Body)
	if err != nil {
		return Response{}, refuse(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid: %v",
			err)
	}
	if r.Method == http.MethodPut && body.text("location") == "" {
		return Response{},
			refuse(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.")
	}
	c, made := s.ensure(k, id, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	next := body.clone()
	if r.Method == http.MethodPatch {
		next = c.doc.clone()
		next.merge(body)
	}
	err = c.configure(ctx, next, body)
	if err != nil && made {
		s.remove(c)
	}
	how := k.puts
	if r.Method == http.MethodPatch {
		how = k.patches
	}
	return s.complete(how, c, made, err)
}
