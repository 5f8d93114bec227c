package check

// everything reports whether the check is of everything.
func (c *checker) everything() bool { return c.Key == "" && c.Vault == "" }

// tries reports whether the check is also of the vault with this URL.
func (c *checker) tries(url string) bool {
	if c.everything() || url == c.Vault {
		return true
	}
	p, known := c.Keys.Policy(c.Key)
	if !known {
		return false
	}
	_, has := p.Vault(url)
	return has
}
