package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// shownService is the service of which the demo says which version it uses.
const shownService = "sadata"

// consumer is what the demo reads from `keyd consumers KEY --json`.
type consumer struct {
	Service    string `json:"service"`
	Name       string `json:"name"`
	Uses       string `json:"uses"`
	Generation int    `json:"generation"`
	Error      string `json:"error"`
}

// showConsumer says which generation a service uses now, as keyd sees it and as the service itself says. Before the
// first time it names all services in keyd's configuration: they exist only since the key does.
func (d *demo) showConsumer(ctx context.Context, n int) error {
	if !d.named {
		if err := d.world.configure(d.evidence.ids()); err != nil {
			return err
		}
		if _, err := d.keyd.do(ctx, "reload"); err != nil {
			return err
		}
		d.named = true
	}
	d.screen.now("storage account "+shownService+" looks for a new version", "daily, which is every second here")
	c, err := d.followed(ctx, n)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("keyd consumers: %s %s uses generation %d", c.Service, c.Name, c.Generation)
	if n > 1 {
		text = fmt.Sprintf("keyd consumers: %s %s followed by itself, and uses generation %d now", c.Service, c.Name,
			c.Generation)
	}
	d.screen.step(text)
	return nil
}

// followed waits until the service uses generation n or a later one, and keyd sees what it really uses.
func (d *demo) followed(ctx context.Context, n int) (c consumer, err error) {
	limit := time.NewTimer(serviceLimit)
	defer limit.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		uses := d.evidence.uses(shownService)
		out, err := d.keyd.do(ctx, "consumers", keyName, "--discover", "--json")
		if err != nil {
			return c, err
		}
		if c, err = seenConsumer(out, shownService); err != nil {
			return c, err
		}
		if c.Error == "" && c.Uses == uses && c.Generation >= n && d.evidence.isOf(uses, c.Generation) {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return c, context.Cause(ctx)
		case <-limit.C:
			return c, fmt.Errorf("%s uses version %s of %s, not one of generation %d, or keyd sees it wrongly: %+v",
				shownService, uses, keyName, n, c)
		case <-tick.C:
		}
	}
}

func seenConsumer(out []byte, name string) (consumer, error) {
	var of struct {
		List []consumer `json:"list"`
	}
	if err := json.Unmarshal(out, &of); err != nil {
		return consumer{}, fmt.Errorf("read what `keyd consumers --json` printed: %w", err)
	}
	for _, c := range of.List {
		if c.Name == name {
			return c, nil
		}
	}
	return consumer{}, fmt.Errorf("`keyd consumers %s` does not show %s", keyName, name)
}

// ids are the services' resource ids.
func (e *evidence) ids() (all []string) {
	for _, c := range e.consumers.Describe() {
		all = append(all, c.ID)
	}
	return all
}

// uses is the version that a service uses by its own word; "": none.
func (e *evidence) uses(name string) (version string) {
	for _, c := range e.consumers.Describe() {
		if c.Name == name {
			version = c.InUse[strings.LastIndex(c.InUse, "/")+1:]
		}
	}
	return version
}

// isOf reports whether a version in the first vault is of a generation, as far as the demo knows already.
func (e *evidence) isOf(version string, generation int) bool {
	for _, s := range e.sealed {
		if s.vault == vaultNames[0] && s.version == version {
			return s.generation == generation
		}
	}
	return true
}
