package config

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/quota"
)

// suffix is the end of the host names of one service in one cloud.
type suffix struct {
	domain string
	kind   key.VaultKind
	cloud  string
}

func suffixes() []suffix {
	return []suffix{
		{"vault.azure.net", key.KeyVault, CloudPublic},
		{"managedhsm.azure.net", key.ManagedHSM, CloudPublic},
		{"vault.azure.cn", key.KeyVault, CloudChina},
		{"managedhsm.azure.cn", key.ManagedHSM, CloudChina},
		{"vault.usgovcloudapi.net", key.KeyVault, CloudUSGovernment},
		{"managedhsm.usgovcloudapi.net", key.ManagedHSM, CloudUSGovernment},
	}
}

// hostForm is Azure's rule for the name of a vault or Managed HSM: 3 to 24 letters,
// digits and single hyphens, a letter first.
var hostForm = regexp.MustCompile(`^[a-z][0-9a-z-]{1,22}[0-9a-z]$`)

const urlRemedy = "write https://NAME.vault.azure.net or https://NAME.managedhsm.azure.net (or the sovereign " +
	"cloud's), and nothing after it"

// ParseVaultURL returns the canonical form of a vault's URL (see key.Origin) and derives kind and cloud from the host.
// The error says what to write instead.
func ParseVaultURL(s string) (canonical string, kind key.VaultKind, cloud string, err error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", "", "", faultf(urlRemedy, "%q is not a URL", s)
	}
	origin, err := key.Origin(u)
	host := strings.TrimPrefix(origin, "https://")
	switch {
	case u.Scheme != "https":
		return "", "", "", faultf(urlRemedy, "%q is not an https URL", s)
	case u.User != nil:
		return "", "", "", faultf(urlRemedy+"; credentials belong in azure", "the URL has a user")
	case strings.Contains(host, ":"):
		return "", "", "", faultf(urlRemedy, "%q has a port other than 443", s)
	case err != nil:
		return "", "", "", faultf(urlRemedy, "%q is not the host of an Azure vault", u.Host)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return "", "", "", faultf(urlRemedy, "%q has text after the host", s)
	}
	for _, x := range suffixes() {
		name, ok := strings.CutSuffix(host, "."+x.domain)
		if !ok {
			continue
		}
		if !hostForm.MatchString(name) {
			return "", "", "", faultf("write the vault's name before ."+x.domain, "%q is not the name of a vault", name)
		}
		return origin, x.kind, x.cloud, nil
	}
	return "", "", "", faultf(urlRemedy, "%q is not the host of an Azure vault", host)
}

// place is a vault as written, and where.
type place struct {
	vault Vault
	at    position
	// broken means already reported. Its name still counts as known.
	broken bool
}

// knownVaults is every vault by nickname.
type knownVaults struct {
	byName map[string]place // as written
	// complete: every file could be read, so that a vault which is not here is
	// nowhere.
	complete bool
}

// find returns the vault with a nickname, in any case.
func (k knownVaults) find(nickname string) (p place, ok bool) {
	for name, p := range k.byName {
		if key.SameName(name, nickname) {
			return p, true
		}
	}
	return place{}, false
}

// readVaults reads every file's vaults and returns them by nickname.
func readVaults(c *Config, sections []*section, rep *report) map[string]place {
	byName, byURL := map[string]place{}, map[string]place{}
	folded := map[string]place{} // by nickname in lower case, as people and commands compare them
	for _, s := range sections {
		for _, f := range s.fields {
			if first, twice := folded[strings.ToLower(f.name)]; twice {
				remedy := "keep one of them"
				if first.vault.Name != f.name {
					remedy = "rename one of them: nicknames that differ only in case are the same"
				}
				rep.add(f.at, remedy, "vault %s is already at %s", f.name, first.at)
				continue
			}
			p := readVault(c, s.sub(f.name))
			byName[f.name], folded[strings.ToLower(f.name)] = p, p
			if p.broken {
				continue
			}
			if first, twice := byURL[p.vault.URL]; twice {
				rep.add(p.at, "keep one of them", "vault %s has the same url as %s at %s",
					f.name, first.vault.Name, first.at)
				continue
			}
			byURL[p.vault.URL] = p
			c.Vaults = append(c.Vaults, p.vault)
		}
	}
	return byName
}

func readVault(c *Config, s *section) place {
	s.only("url", "kek", "share", "subscription", "evidence")
	name := strings.TrimPrefix(s.path, "vaults.")
	p := place{at: s.at, broken: true}
	if !key.ValidName(name) {
		s.rep.add(s.at, "use 1 to 127 letters, digits and hyphens (0-9 a-z A-Z -)",
			"%q is not a valid name for a vault", name)
	}
	s.require("url", urlRemedy)
	p.vault.Name = name
	p.vault.KEK = readKEK(s.sub("kek"))
	refuseFirstUse(c, p.vault.KEK, s.sub("kek"))
	p.vault.Share = read(s, "share", quota.DefaultShare, parseShare)
	p.vault.Subscription = strings.ToLower(read(s, "subscription", "", parseUUID))
	p.vault.Workspace = readEvidence(s)
	p.vault.URL = read(s, "url", "", func(text string) (string, error) {
		canonical, kind, cloud, err := ParseVaultURL(text)
		if err != nil {
			return "", err
		}
		if want := c.Azure.Cloud; want != "" && cloud != want {
			return "", faultf("write azure.cloud: "+cloud+", or a vault of cloud "+want,
				"the host is in cloud %s, and azure.cloud is %s", cloud, want)
		}
		p.vault.Kind = kind
		return canonical, nil
	})
	refuseHSMLog(&p.vault, s)
	readAttestation(s.sub("kek"), &p.vault)
	p.broken = p.vault.URL == ""
	return p
}

// trustFirstUse is what kek.trust may say: keyd trusts the key exchange key that it uses first. It is for trying keyd
// out.
const trustFirstUse = "first-use"

func readKEK(s *section) KEK {
	s.only("name", "fingerprint", "fingerprints", "trust", "partition_root", "attestation",
		"create", "bits", "schedule")
	k := KEK{
		Name:         read(s, "name", "keyd-kek", parseName),
		Fingerprints: readFingerprints(s),
		Create:       read(s, "create", true, parseBool),
		Bits:         read(s, "bits", 4096, parseBits),
		Schedule:     read(s, "schedule", nil, parseSchedule),
	}
	k.FirstUse = read(s, "trust", "", oneOf(trustFirstUse)) != ""
	if k.FirstUse && (s.has("fingerprint") || s.has("fingerprints")) {
		s.rep.add(s.whereOf("trust"), "remove it", "%s: the fingerprints decide which key exchange key keyd trusts",
			s.name("trust"))
	}
	if k.Schedule != nil {
		k.ScheduleText, _ = s.byName["schedule"].text()
		if !k.Create {
			s.rep.add(s.whereOf("schedule"), "remove it, or let keyd make the key exchange key",
				"%s: kek.create is false, so keyd makes no new one", s.name("schedule"))
		}
	}
	return k
}

// readFingerprints reads the list, or the one of the short form.
func readFingerprints(s *section) (pins []key.Fingerprint) {
	one := read(s, "fingerprint", "", parseFingerprint)
	if !s.has("fingerprints") {
		if one != "" {
			pins = append(pins, one)
		}
		return pins
	}
	if s.has("fingerprint") {
		s.rep.add(s.whereOf("fingerprint"), "move it into the list", "%s and fingerprints are both set",
			s.name("fingerprint"))
	}
	before := len(s.rep.problems)
	for _, f := range list(s, "fingerprints", parseFingerprint) {
		if slices.Contains(pins, f.value) {
			s.rep.add(f.at, "remove one", "%s: %s appears twice", s.name("fingerprints"), f.value)
			continue
		}
		pins = append(pins, f.value)
	}
	if len(pins) == 0 && len(s.rep.problems) == before {
		s.rep.add(s.whereOf("fingerprints"), "write a fingerprint as keyd kek shows it, or remove the field",
			"%s is empty", s.name("fingerprints"))
	}
	return pins
}

func parseBits(s string) (int, error) {
	switch s {
	case "2048":
		return 2048, nil
	case "3072":
		return 3072, nil
	case "4096":
		return 4096, nil
	}
	return 0, faultf("write 2048, 3072 or 4096", "%q is not the size of an RSA-HSM key", s)
}
