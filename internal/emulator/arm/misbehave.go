package arm

// Pause makes a consumer look for no new version, as a service that lags behind its documents; or ends that.
func (s *Service) Pause(name string, paused bool) error {
	return s.misbehave(name, func(c *consumer) { c.paused = paused })
}

// Claim makes Resource Manager show another version of a consumer's key than it uses; "" ends that.
func (s *Service) Claim(name, version string) error {
	return s.misbehave(name, func(c *consumer) { c.claim = version })
}

func (s *Service) misbehave(name string, change func(*consumer)) error {
	c, err := s.named(name)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
	return nil
}

// shownActive is the version in use as Resource Manager shows it.
func (c *consumer) shownActive() keyRef {
	if c.claim != "" && c.active != (keyRef{}) {
		return c.active.at(c.claim)
	}
	return c.active
}
