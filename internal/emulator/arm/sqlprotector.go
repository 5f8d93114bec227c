package arm

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
)

func init() {
	for _, k := range []*kind{sqlServer, sqlInstance} {
		serve := func(path string, answer ofServer) {
			faces[strings.ToLower(k.path+path)] = func(s *Service, ctx context.Context, p place, r Request) (Response,
				error) {
				if c := s.find(p.parent().id(k.path)); c != nil {
					return answer(s, ctx, c, p, r)
				}
				return Response{}, notFound(k.path, p.parent())
			}
		}
		serve("/keys", (*Service).serverKey)
		serve("/encryptionProtector", (*Service).protector)
	}
}

// ofServer answers for a child of a server.
type ofServer func(*Service, context.Context, *consumer, place, Request) (Response, error)

// child is a resource inside a server.
func (c *consumer) child(word, name, kind string, properties document) document {
	return document{"id": c.id + "/" + word + "/" + name, "name": name, "kind": kind,
		"type": c.kind.path + "/" + word, "properties": properties}
}

const ownKey = "ServiceManaged"

// serverKey answers for servers/SERVER/keys[/NAME].
func (s *Service) serverKey(ctx context.Context, c *consumer, p place, r Request) (Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shown := map[string]document{ownKey: c.child("keys", ownKey, "servicemanaged",
		document{"serverKeyType": ownKey})}
	for uri, name := range c.serverKeys() {
		shown[name] = c.child("keys", name, "azurekeyvault", document{"serverKeyType": "AzureKeyVault", "uri": uri,
			"autoRotationEnabled": c.follows && uri == c.active.String()})
	}
	switch {
	case p.all() && r.Method == http.MethodGet:
		list := []document{}
		for _, name := range slices.Sorted(maps.Keys(shown)) {
			list = append(list, shown[name])
		}
		return s.page(r, list)
	case r.Method == http.MethodGet && shown[p.names[1]] != nil:
		return Response{Status: http.StatusOK, Body: shown[p.names[1]]}, nil
	case r.Method == http.MethodGet:
		return Response{}, notFound(c.kind.path+"/keys", p)
	case !p.all() && r.Method == http.MethodPut:
		return s.putServerKey(ctx, c, p.names[1], r)
	case !p.all() && r.Method == http.MethodDelete:
		return s.deleteServerKey(c, p.names[1])
	}
	return Response{}, notAllowed(r.Method)
}

func (s *Service) putServerKey(ctx context.Context, c *consumer, name string, r Request) (Response, error) {
	body, err := parseDocument(r.Body)
	if err != nil || body.sub("properties") == nil {
		return Response{}, c.kind.refuse("InvalidKeyUpsertRequest",
			"The create server key request does not exist or has no properties object.")
	}
	if !strings.EqualFold(body.text("properties", "serverKeyType"), "AzureKeyVault") {
		return Response{}, c.kind.refuse("InvalidKeyType", "The create server key type is not supported: write "+
			"AzureKeyVault.")
	}
	key, err := parseKeyRef(body.text("properties", "uri"))
	switch {
	case err != nil:
		return Response{}, err
	case key.version == "":
		return Response{}, c.kind.refuse("InvalidKeyUri", "The URI of a server key must have a version: %s", key)
	case !strings.EqualFold(name, sqlKeyName(key)):
		return Response{}, c.kind.refuse("InvalidKeyName", "The server key %q must have the name %s.", name,
			sqlKeyName(key))
	}
	if err := c.readAsServer(ctx, key); err != nil {
		return Response{}, err
	}
	c.doc.set(document{"uri": key.String(), "creationDate": timestamp(s.cfg.Now())}, sqlKeys, name)
	return s.accepted(c.kind, c.id, &operation{shows: func() document {
		return c.child("keys", name, "azurekeyvault",
			document{"serverKeyType": "AzureKeyVault", "uri": key.String()})
	}}), nil
}

// readAsServer reads a key with the server's identity, which may have none of its own yet.
func (c *consumer) readAsServer(ctx context.Context, key keyRef) error {
	who, err := chosenIdentity(c, c.doc, c.doc.text("properties", "primaryUserAssignedIdentityId"))
	if err != nil {
		return err
	}
	info, err := c.service.look(ctx, who, key)
	if err != nil {
		return keyRefused(err)
	}
	return c.kind.accepts(key, info, c.doc.text("location"))
}

func (s *Service) deleteServerKey(c *consumer, name string) (Response, error) {
	keys := c.doc.sub(sqlKeys)
	if keys.sub(name) == nil {
		return Response{Status: http.StatusNoContent}, nil
	}
	if c.active != (keyRef{}) && strings.EqualFold(name, sqlKeyName(c.active)) {
		return Response{}, refuse(http.StatusConflict, "ServerKeyInUse",
			"The server key %s is the encryption protector of %s.", name, c.name)
	}
	c.doc.unset(sqlKeys, name)
	return s.accepted(c.kind, c.id, &operation{}), nil
}

// protector answers for servers/SERVER/encryptionProtector[/current].
func (s *Service) protector(ctx context.Context, c *consumer, p place, r Request) (Response, error) {
	if !p.all() && !strings.EqualFold(p.names[1], "current") {
		return Response{}, refuse(http.StatusBadRequest, "InvalidEncryptionProtectorName",
			"The encryption protector has the name current, not %s.", p.names[1])
	}
	switch {
	case p.all() && r.Method == http.MethodGet:
		return s.page(r, []document{c.protectorShown()})
	case r.Method == http.MethodGet:
		return Response{Status: http.StatusOK, Body: c.protectorShown()}, nil
	case r.Method == http.MethodPut && !p.all():
		return s.putProtector(ctx, c, r)
	case r.Method == http.MethodPost && strings.EqualFold(p.action, "revalidate"):
		return s.accepted(c.kind, c.id, &operation{shows: c.protectorShown}), nil
	}
	return Response{}, notAllowed(r.Method)
}

func (c *consumer) protectorShown() document {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key == (keyRef{}) {
		return c.child("encryptionProtector", "current", "servicemanaged",
			document{"serverKeyName": ownKey, "serverKeyType": ownKey, "autoRotationEnabled": false})
	}
	return c.child("encryptionProtector", "current", "azurekeyvault", document{
		"serverKeyName": sqlKeyName(c.shownActive()), "serverKeyType": "AzureKeyVault",
		"uri":                 c.shownActive().String(),
		"autoRotationEnabled": c.follows,
	})
}

// putProtector replaces the protector: what the request leaves out is not kept.
func (s *Service) putProtector(ctx context.Context, c *consumer, r Request) (Response, error) {
	body, err := parseDocument(r.Body)
	if err != nil {
		return Response{}, refuse(
			http.StatusBadRequest,
			"InvalidRequestContent",
			"The request content was invalid: %v",
			err,
		)
	}
	name, kind := body.text("properties", "serverKeyName"), body.text("properties", "serverKeyType")
	next := document{"serverKeyType": kind, "serverKeyName": name,
		"autoRotationEnabled": body.flag("properties", "autoRotationEnabled")}
	switch {
	case strings.EqualFold(kind, ownKey):
	case !strings.EqualFold(kind, "AzureKeyVault"):
		return Response{}, c.kind.refuse("InvalidKeyType", "The server key type %q is not supported.", kind)
	default:
		uri := c.uriOf(name)
		if uri == "" {
			return Response{}, refuse(http.StatusNotFound, "ServerKeyNotFound",
				"The server %s has no key %q: put it first.", c.name, name)
		}
		next["uri"] = uri
		if err := s.secondariesHave(c, uri); err != nil {
			return Response{}, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	doc := c.doc.clone()
	doc[sqlProtector] = next
	asked := doc.clone()
	return s.accepted(c.kind, c.id, &operation{shows: c.protectorShown, err: c.configure(ctx, doc, asked)}), nil
}

// uriOf returns the URI of one of the server's keys.
func (c *consumer) uriOf(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for uri, have := range c.serverKeys() {
		if strings.EqualFold(have, name) {
			return uri
		}
	}
	return ""
}
