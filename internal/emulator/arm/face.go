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
	// IfMatch is the header If-Match.
	IfMatch string
	// Caller is the client id of the token.
	Caller string
}

// Response is its answer.
type Response struct {
	Status int
	Header map[string]string
	Body   any // for JSON; nil: none
}

var apiVersion = regexp.MustCompile(`^20[0-9]{2}-[0-9]{2}-[0-9]{2}(-preview)?$`)

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
	p, ok := parsePlace(r.Method, r.Path)
	if !ok {
		return Response{}, refuse(http.StatusNotFound, "NotFound", "The emulator does not know the path %s.", r.Path)
	}
	if p.operation != "" {
		return s.follow(p)
	}
	if strings.EqualFold(p.path, graphPath) {
		return s.graph(p, r)
	}
	if err := s.authorize(p, r); err != nil {
		return Response{}, err
	}
	if serve := faceOf(p.path); serve != nil {
		return serve(s, ctx, p, r)
	}
	if !p.ofSubscription() || strings.Count(p.path, "/") > 2 {
		return Response{}, refuse(http.StatusNotFound, "NotFound", "The emulator does not know the path %s.", r.Path)
	}
	k := kindOfPath(p.path)
	if k == nil && r.Method == http.MethodGet && !p.all() {
		if found := s.added(p.id(p.path)); found != nil {
			return Response{Status: http.StatusOK, Body: found.shown()}, nil
		}
	}
	if k == nil {
		return Response{}, refuse(http.StatusBadRequest, "InvalidResourceType",
			"The emulator has no resources of type %s; it has %s.", p.path, strings.Join(kindPaths(), ", "))
	}
	if p.all() {
		return s.list(k, p, r)
	}
	return s.one(ctx, k, p, r)
}

// face answers for a type of resource that is no consumer.
type face func(s *Service, ctx context.Context, p place, r Request) (Response, error)

// faces are added by init functions, because they call what looks them up.
var faces = map[string]face{} // by lower-case path

func faceOf(path string) face { return faces[strings.ToLower(path)] }

func kindPaths() (paths []string) {
	for _, k := range kinds {
		paths = append(paths, k.path)
	}
	return paths
}

// list answers for a subscription, a resource group or a parent.
func (s *Service) list(k *kind, p place, r Request) (Response, error) {
	if r.Method != http.MethodGet {
		return Response{}, notAllowed(r.Method)
	}
	around := p.scope
	if k.parent != nil {
		around = p.parent().id(k.parent.path)
		if s.find(around) == nil {
			return Response{}, notFound(k.parent.path, p.parent())
		}
	}
	found := []document{}
	for _, c := range s.all() {
		if c.kind == k && strings.HasPrefix(strings.ToLower(c.id), strings.ToLower(around)+"/") {
			found = append(found, c.shown())
		}
	}
	return s.page(r, found)
}

func notFound(path string, p place) error {
	return refuse(http.StatusNotFound, "ResourceNotFound",
		"The Resource '%s/%s' under '%s' was not found. For more details please go to "+
			"https://aka.ms/ARMResourceNotFoundFix", path, p.name(), p.scope)
}

func (s *Service) one(ctx context.Context, k *kind, p place, r Request) (Response, error) {
	id := p.id(k.path)
	c := s.find(id)
	switch {
	case r.Method == http.MethodPut || (r.Method == http.MethodPatch && c != nil):
		if k.parent != nil && s.find(p.parent().id(k.parent.path)) == nil {
			return Response{}, refuse(http.StatusNotFound, "ParentResourceNotFound",
				"Failed to perform the operation on %s, because its parent was not found.", id)
		}
		return s.put(ctx, k, id, p.name(), r)
	case c == nil && r.Method == http.MethodDelete:
		return Response{Status: http.StatusNoContent}, nil
	case c == nil:
		return Response{}, notFound(k.path, p)
	case r.Method == http.MethodGet:
		return Response{Status: http.StatusOK, Body: c.shown()}, nil
	case r.Method == http.MethodHead:
		return Response{Status: http.StatusNoContent}, nil
	case r.Method == http.MethodDelete && !k.stays:
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
	if r.Method == http.MethodPut && k.parent == nil && body.text("location") == "" {
		return Response{},
			refuse(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.")
	}
	c, made := s.ensure(k, id, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.etagged && r.IfMatch != "" && r.IfMatch != "*" && r.IfMatch != c.etag() {
		return Response{}, refuse(http.StatusPreconditionFailed, "IfMatchPreconditionFailed",
			"The resource was changed: its etag is %s, not %s.", c.etag(), r.IfMatch)
	}
	err = c.arrange(ctx, made, c.next(r.Method, body), body)
	if err != nil && made {
		s.remove(c)
	}
	how := k.puts
	if r.Method == http.MethodPatch {
		how = k.patches
	}
	return s.complete(how, c, made, err)
}

// next is the document that a request makes of the consumer's.
func (c *consumer) next(method string, body document) document {
	next := body.clone()
	if method == http.MethodPatch {
		next = c.doc.clone()
		next.merge(body)
	}
	for _, path := range c.kind.whole {
		if given := body.sub(path...); given != nil {
			next.set(given.clone(), path...)
		}
	}
	for _, name := range c.kind.inside {
		delete(next, name)
		if kept, ok := c.doc[name]; ok {
			next[name] = kept
		}
	}
	return next
}

// arrange configures what the service keeps under the consumer's key, and under others.
func (c *consumer) arrange(ctx context.Context, made bool, next, asked document) error {
	if made && c.kind.restores {
		if err := c.restore(next); err != nil {
			return err
		}
	}
	if c.kind.slots != nil {
		return c.configureSlots(ctx, next, asked)
	}
	return c.configure(ctx, next, asked)
}
