package config

import (
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/key"
)

// InForce are the guarded settings of a configuration by value, to be kept while files with others wait for a second
// operator. Vaults and keys are whole: files that leave one out say nothing about the rest of it. Nothing in it is read
// from the host again, so neither a renamed user nor an exchanged file changes what it means.
type InForce struct {
	Operators []uint32 `json:"operators,omitempty"` // those who are not in People
	// OperatorNames are those who are in People.
	OperatorNames []string `json:"operator_names,omitempty"`
	People        People   `json:"people,omitempty"`
	// Host says whose uids are meant. Where several hosts have the state, each has its own.
	Host      string    `json:"host,omitempty"`
	Group     string    `json:"group,omitempty"`
	Approvals Approvals `json:"approvals"`
	TestRoots [][]byte  `json:"test_roots,omitempty"` // certificates in DER
	// Subscriptions are those of section azure.
	Subscriptions []string     `json:"subscriptions,omitempty"`
	Vaults        []Vault      `json:"vaults,omitempty"`
	Keys          []key.Policy `json:"keys,omitempty"`
}

// InForce returns the guarded settings of this configuration.
func (c *Config) InForce() InForce {
	f := InForce{Operators: c.operatorUIDs(), OperatorNames: c.Control.OperatorNames, People: c.People,
		Group: c.Control.Group, Approvals: c.Approvals,
		Subscriptions: c.Azure.Subscriptions, Vaults: slices.Clone(c.Vaults), Keys: slices.Clone(c.Policies)}
	if !c.Store.Shared() {
		f.Host = c.Host
	}
	for _, r := range c.HSM.TestRoots {
		f.TestRoots = append(f.TestRoots, r.Certificate.Raw)
	}
	return f
}

// The settings of thousands of keys are several mebibytes as JSON, and a shared store takes one at once. From packedFrom
// bytes on they are kept compressed, as a JSON string. mostUnpacked bounds what becomes of one.
const (
	packedFrom   = 64 << 10
	mostUnpacked = 256 << 20
)

// Encode returns f as JSON. A schedule is kept as it was written.
func (f InForce) Encode() ([]byte, error) {
	f.Vaults, f.Keys = slices.Clone(f.Vaults), slices.Clone(f.Keys)
	for i := range f.Vaults {
		f.Vaults[i].KEK.Schedule = nil
	}
	for i := range f.Keys {
		f.Keys[i].Schedule = nil
	}
	text, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode the settings in force: %w", err)
	}
	if len(text) < packedFrom {
		return text, nil
	}
	return packed(text)
}

// packed is a text, compressed, as a JSON string in base64.
func packed(text []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return json.Marshal(b.Bytes())
}

// unpacked undoes packed, if a text is packed.
func unpacked(text []byte) ([]byte, error) {
	if !bytes.HasPrefix(text, []byte(`"`)) {
		return text, nil
	}
	var b []byte
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(z, mostUnpacked+1))
	if err == nil && len(out) > mostUnpacked {
		err = fmt.Errorf("they have more than %d bytes", mostUnpacked)
	}
	return out, err
}

// DecodeInForce reads what Encode wrote. It refuses what it does not know: a setting must not be lost in silence.
func DecodeInForce(text []byte) (f InForce, err error) {
	if text, err = unpacked(text); err != nil {
		return f, fmt.Errorf("read the settings in force: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, fmt.Errorf("read the settings in force: %w", err)
	}
	for i := range f.Vaults {
		k := &f.Vaults[i].KEK
		if k.Schedule, err = scheduleOf(k.ScheduleText); err != nil {
			return f, fmt.Errorf("read the settings in force: vault %s: %w", f.Vaults[i].Name, err)
		}
	}
	for i := range f.Keys {
		p := &f.Keys[i]
		if p.Schedule, err = scheduleOf(p.ScheduleText); err != nil {
			return f, fmt.Errorf("read the settings in force: key %s: %w", p.Key, err)
		}
	}
	return f, nil
}

func scheduleOf(text string) (key.Schedule, error) {
	if text == "" {
		return nil, nil
	}
	return parseSchedule(text)
}

// Under returns this configuration with the guarded settings in force instead of its own: it has exactly the keys and
// the vaults of f. All else is as in this configuration, where it has the key or the vault.
func (c *Config) Under(f InForce) (*Config, error) {
	under := *c
	under.People, under.Control.Group, under.Approvals = f.People, f.Group, f.Approvals
	if !c.Store.Shared() && (f.Host != "" || len(f.People) == 0) {
		under.Host = f.Host
	}
	under.setOperators(f.Operators, f.OperatorNames)
	under.Azure.Subscriptions, under.HSM.TestRoots = f.Subscriptions, nil
	for _, der := range f.TestRoots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read the settings in force: hsm.test_attestation_root: %w", err)
		}
		under.HSM.TestRoots = append(under.HSM.TestRoots, attest.Root{Name: "test root " + root.Subject.CommonName,
			Source: "the settings in force", Certificate: root, Test: true})
	}
	under.Vaults = make([]Vault, len(f.Vaults))
	for i, was := range f.Vaults {
		under.Vaults[i] = c.vaultUnder(was)
	}
	under.Policies = make([]key.Policy, len(f.Keys))
	own := make(map[string]key.Policy, len(c.Policies))
	for _, p := range c.Policies {
		own[p.Key] = p
	}
	for i, was := range f.Keys {
		p, there := own[was.Key]
		if !there {
			p = was
		}
		p.Vaults, p.Retire, p.Consumers = was.Vaults, was.Retire, was.Consumers
		p.Workspaces, p.Discover = was.Workspaces, was.Discover
		under.Policies[i] = p
	}
	return &under, nil
}

func (c *Config) vaultUnder(was Vault) Vault {
	v, there := c.Vault(was.URL)
	if !there {
		return was
	}
	v.Vault, v.Workspace = was.Vault, was.Workspace
	v.KEK.Name, v.KEK.Fingerprints, v.KEK.FirstUse = was.KEK.Name, was.KEK.Fingerprints, was.KEK.FirstUse
	v.KEK.PartitionRoot, v.KEK.Attested = was.KEK.PartitionRoot, was.KEK.Attested
	return v
}
