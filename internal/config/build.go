package config

import (
	"fmt"
	"log/slog"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/keyd-project/keyd/internal/quota"
)

// build turns the files into a Config. It reports every mistake. If there is one, the Config serves only to find more
// mistakes.
func build(sources []source, rep *report) *Config {
	c := &Config{}
	var vaults, keys []*section
	defaults := &section{rep: rep, path: "defaults", quiet: true, byName: map[string]field{}}
	complete := len(sources) == len(rep.order)
	for _, src := range sources {
		c.Files = append(c.Files, src.name)
		top := parse(src, rep)
		if top == nil {
			complete = false
			continue
		}
		if src.name == rep.order[0] {
			readMain(c, top)
			defaults = top.sub("defaults")
			defaults.quiet = true
		} else {
			onlyVaultsAndKeys(top)
		}
		vaults = append(vaults, top.sub("vaults"))
		keys = append(keys, top.sub("keys"))
	}
	known := knownVaults{readVaults(c, vaults, rep), complete}
	readDefaults(defaults, known)
	readKeys(c, keys, defaults, known, rep)
	checkRoom(c, known, rep)
	return c
}

var mainFields = []string{
	"instance",
	"state_dir",
	"store",
	"host",
	"people",
	"hsm",
	"azure",
	"vaults",
	"defaults",
	"keys",
	"control",
	"approvals",
	"web",
	"health",
	"log",
}

// onlyVaultsAndKeys refuses everything but vaults and keys in the files of keys.d.
func onlyVaultsAndKeys(s *section) {
	for _, f := range s.fields {
		switch {
		case f.name == "vaults" || f.name == "keys":
		case slices.Contains(mainFields, f.name):
			s.rep.add(f.at, "move it to "+s.rep.order[0],
				"%s does not belong in keys.d, where only vaults and keys are read", f.name)
		default:
			s.rep.add(f.at, suggest(f.name, []string{"vaults", "keys"}), "unknown field %s", f.name)
		}
	}
}

func readMain(c *Config, s *section) {
	s.only(mainFields...)
	s.require("instance", "write instance: and a name for this keyd, such as hq-1")
	s.require("hsm", "write hsm: with module, token and pin_file, or with uri")
	c.Instance = read(s, "instance", "", parseName)
	c.StateDir = read(s, "state_dir", "/var/lib/keyd", parsePath)
	c.Store = readStore(s, c.Instance)
	c.People = readPeople(s)
	c.Host = readHost(s, s.has("store") || s.has("people"))
	if s.has("hsm") {
		c.HSM = readHSM(s.sub("hsm"), c.StateDir)
	}
	c.Azure = readAzure(s.sub("azure"))
	readControl(c, s.sub("control"))
	c.Approvals = readApprovals(s)
	c.Web = readWeb(s.sub("web"))
	c.Health = readHealth(s.sub("health"))
	c.Log = readLog(s.sub("log"))
}

func readHSM(s *section, stateDir string) HSM {
	refusePIN(s)
	s.only("uri", "module", "token", "serial", "pin_file", "socket", "user", "state_dir",
		"sessions", "call_timeout", "generate_timeout", "wrap_mechanism", "test_attestation_root")
	h := HSM{
		Module:          read(s, "module", "", parsePath),
		Token:           read(s, "token", "", maxChars(32)),
		Serial:          read(s, "serial", "", maxChars(16)),
		PINFile:         read(s, "pin_file", "", parseSecretFile),
		Socket:          read(s, "socket", "", parseSocket),
		User:            read(s, "user", defaultUser, parseHSMUser),
		Sessions:        read(s, "sessions", 4, intIn(1, 64)),
		CallTimeout:     read(s, "call_timeout", 30*time.Second, durationIn(time.Second, 10*time.Minute)),
		GenerateTimeout: read(s, "generate_timeout", 5*time.Minute, durationIn(time.Second, time.Hour)),
		WrapMechanism:   read(s, "wrap_mechanism", 0, parseMechanism),
		TestRoots:       read(s, "test_attestation_root", nil, parseTestRoot),
		pinAt:           s.whereOf("pin_file"),
	}
	h.StateDir = filepath.Join(stateDir, "hsm")
	if s.has("socket") {
		h.StateDir = "/var/lib/keyd-hsm"
	}
	h.StateDir = read(s, "state_dir", h.StateDir, parsePath)
	if s.has("uri") {
		mergeURI(&h, s)
		return h
	}
	s.require("module", "write the path of the HSM's PKCS#11 library, or use hsm.uri")
	s.require("pin_file", "write a systemd credential's name, such as hsm-pin, or an absolute path")
	if !s.has("serial") {
		s.require("token", "write the token's label, or hsm.serial (`"+showTokens(h.Module)+"` shows both)")
	}
	return h
}

// refusePIN refuses a PIN in the configuration and says where it belongs.
func refusePIN(s *section) {
	s.fields = slices.DeleteFunc(s.fields, func(f field) bool {
		if f.name != "pin" {
			return false
		}
		s.rep.add(
			f.at,
			"write it into a file that only the HSM side can read, name that by hsm.pin_file, and change "+
				"the PIN if others could read this file",
			"hsm.pin puts the PIN into the configuration",
		)
		return true
	})
}

// mergeURI takes from hsm.uri what the other fields do not set. Nothing may be set
// twice.
func mergeURI(h *HSM, s *section) {
	where := s.whereOf("uri")
	u, ok := readScalar(s.rep, s.name("uri"), where, s.byName["uri"].node, ParseURI)
	if !ok {
		return
	}
	for _, v := range []struct {
		attribute, value, field string
		to                      *string
	}{
		{"module-path", u.ModulePath, "module", &h.Module},
		{"token", u.Token, "token", &h.Token},
		{"serial", u.Serial, "serial", &h.Serial},
		{"pin-source", u.PINSource, "pin_file", &h.PINFile},
	} {
		switch {
		case v.value == "":
		case s.has(v.field):
			s.rep.add(s.whereOf(v.field), "keep one of them", "%s is already in hsm.uri as %s",
				s.name(v.field), v.attribute)
		default:
			*v.to = v.value
		}
	}
	h.Model, h.Manufacturer = u.Model, u.Manufacturer
	if u.PINSource != "" {
		h.pinAt = where
	}
	if h.Module == "" && !s.has("module") {
		s.rep.add(where, "add ?module-path=/usr/lib/… to it, or write hsm.module", "hsm.uri: no module-path")
	}
	if h.PINFile == "" && !s.has("pin_file") {
		s.rep.add(where, "add pin-source=file:/… to its query, or write hsm.pin_file", "hsm.uri: no pin-source")
	}
	if h.Token == "" && h.Serial == "" && !s.has("token") && !s.has("serial") {
		s.rep.add(where, "add token=… or serial=… to it", "hsm.uri: it names no token")
	}
}

func readAzure(s *section) Azure {
	s.only("credential", "client_id", "tenant_id", "certificate_file", "cloud", "ca_file", "subscription_share",
		"subscriptions")
	a := Azure{
		Credential: read(s, "credential", CredentialManagedIdentity, oneOf(CredentialManagedIdentity,
			CredentialWorkloadIdentity, CredentialClientCertificate, CredentialDefault)),
		ClientID:          read(s, "client_id", "", parseUUID),
		TenantID:          read(s, "tenant_id", "", parseTenant),
		CertificateFile:   read(s, "certificate_file", "", parseSecretFile),
		Cloud:             read(s, "cloud", CloudPublic, oneOf(CloudPublic, CloudChina, CloudUSGovernment)),
		CAFile:            read(s, "ca_file", "", parsePath),
		SubscriptionShare: read(s, "subscription_share", quota.DefaultShare, parseShare),
		Subscriptions:     readSubscriptions(s),
		certificateAt:     s.whereOf("certificate_file"),
	}
	if a.Credential == CredentialClientCertificate {
		for _, name := range []string{"client_id", "tenant_id", "certificate_file"} {
			s.require(name, "write it: credential client-certificate needs it")
		}
		return a
	}
	unused := []string{"certificate_file"}
	switch a.Credential {
	case CredentialManagedIdentity:
		unused = append(unused, "tenant_id")
	case CredentialDefault:
		unused = append(unused, "client_id")
	}
	for _, name := range unused {
		if s.has(name) {
			s.rep.add(s.byName[name].at, "remove it, or choose another credential",
				"%s has no meaning for credential %s", s.name(name), a.Credential)
		}
	}
	return a
}

func readControl(c *Config, s *section) {
	s.only("socket", "operators", "group")
	c.Control = Control{
		Socket: read(s, "socket", "/run/keyd/keyd.sock", parseSocket),
		Group:  read(s, "group", defaultGroup, parseGroup),
	}
	if _, err := strconv.ParseUint(c.Control.Group, 10, 32); err == nil && c.Store.Shared() {
		s.rep.add(
			s.whereOf("group"),
			"write the group's name",
			"control.group: %s may be another group on another host",
			c.Control.Group,
		)
	}
	readOperators(c, s)
}

// parseUser resolves a uid or the name of a user on this host to a uid.
func parseUser(s string) (uint32, error) {
	if uid, err := strconv.ParseUint(s, 10, 32); err == nil {
		return uint32(uid), nil
	}
	const remedy = "write a uid, or the name of a user on this host"
	u, err := user.Lookup(s)
	if err != nil {
		return 0, faultf(remedy, "unknown user %q", s)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, faultf(remedy, "user %q has no numeric uid", s)
	}
	return uint32(uid), nil
}

// defaultUser may be absent where the HSM side is no service.
const defaultUser = "keyd"

// parseHSMUser refuses the name of a user that does not exist on this host.
func parseHSMUser(s string) (string, error) {
	if s == defaultUser {
		return s, nil
	}
	_, err := parseUser(s)
	return s, err
}

// defaultGroup may be absent: then only root, the daemon's own user and the operators may read.
const defaultGroup = "keyd"

// parseGroup refuses the name of a group that does not exist on this host.
func parseGroup(s string) (string, error) {
	if _, err := strconv.ParseUint(s, 10, 32); err == nil || s == defaultGroup {
		return s, nil
	}
	if _, err := user.LookupGroup(s); err != nil {
		return "", faultf("write a gid, or the name of a group on this host (`getent group` lists them)",
			"unknown group %q", s)
	}
	return s, nil
}

func readWeb(s *section) Web {
	s.only("listen", "web_config_file")
	w := Web{
		Listen:     read(s, "listen", "127.0.0.1:9889", parseListen),
		ConfigFile: read(s, "web_config_file", "", parsePath),
	}
	if !w.Loopback() && !s.has("web_config_file") {
		s.rep.add(s.whereOf("listen"),
			"listen on 127.0.0.1, or write web.web_config_file with TLS and authentication (exporter-toolkit)",
			"web.listen: %q can be reached from other hosts", w.Listen)
	}
	return w
}

func readHealth(s *section) Health {
	s.only("newest", "older", "look")
	interval := durationIn(time.Second, 31*day)
	h := Health{
		Newest: read(s, "newest", 5*time.Minute, interval),
		Older:  read(s, "older", day, interval),
		Look:   read(s, "look", 15*time.Minute, interval),
	}
	if h.Older < h.Newest {
		s.rep.add(s.whereOf("older"), fmt.Sprintf("write %s or more, or a shorter health.newest",
			showDuration(h.Newest)),
			"health.older: %s is shorter than health.newest", showDuration(h.Older))
	}
	return h
}

func readLog(s *section) Log {
	s.only("level", "format")
	return Log{
		Level:  read(s, "level", slog.LevelInfo, parseLevel),
		Format: read(s, "format", "auto", oneOf("auto", "text", "json")),
	}
}

func parseLevel(s string) (slog.Level, error) {
	word, err := oneOf("debug", "info", "warn", "error")(s)
	if err != nil {
		return 0, err
	}
	var l slog.Level
	err = l.UnmarshalText([]byte(word))
	return l, err
}
