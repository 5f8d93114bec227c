package check

// attestationRoot warns of a root that is for tests only.
func (c *checker) attestationRoot() {
	for _, r := range c.Config.HSM.TestRoots {
		c.warn("hsm", "hsm.test_attestation_root", "root of attestations",
			r.Name+": attestations of Managed HSMs prove nothing", "remove it from keyd.yaml: it is for tests only")
	}
}
