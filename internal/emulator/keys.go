package emulator

import (
	"encoding/json"
	"errors"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var keyName = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)

// do performs one operation and returns status and body.
func (v *Vault) do(t target, query url.Values, body []byte) (int, any, error) {
	status := http.StatusOK
	result, err := v.result(t, query, body)
	if t.operation == opPurge {
		status = http.StatusNoContent
	}
	var api *apiError
	if errors.As(err, &api) && api.missing != nil {
		worded := *api
		worded.message = v.notFound(t, *api.missing)
		err = &worded
	}
	return status, result, err
}

func (v *Vault) result(t target, query url.Values, body []byte) (any, error) {
	if t.key != "" && !keyName.MatchString(t.key) {
		return nil, v.badName(t.key)
	}
	switch t.operation {
	case "":
		return nil, &apiError{status: http.StatusNotFound, code: "NotFound",
			message: "The emulator does not know this path and method."}
	case opPurge:
		return nil, v.change(func(s *state) error { return v.purge(s, t.key) })
	case opBackup:
		return v.backup(t.key)
	case opRestore:
		return decodeThen(body, func(q backupBody) (any, error) { return v.restoreBackup(q) })
	case opRoles:
		return v.localRoles(t.scope, query.Get("$filter"))
	case opRoleNames:
		return v.localRoleNames()
	case opRandom:
		return decodeThen(body, func(q randomRequest) (any, error) { return v.random(q.Count) })
	case opRelease:
		return decodeThen(body, func(q releaseRequest) (any, error) { return v.release(t, q) })
	case opCreate:
		return decodeThen(body, func(q createRequest) (any, error) { return v.create(t.key, q) })
	case opImport:
		return decodeThen(body, func(q importRequest) (any, error) { return v.importKey(t.key, q) })
	case opUpdate:
		return decodeThen(body, func(q updateRequest) (any, error) { return v.update(t, q) })
	case opGet:
		return v.get(t)
	case opDelete:
		return v.remove(t.key)
	case opRecover:
		return v.restore(t.key)
	case opGetDeleted:
		d, err := v.deletedKey(v.replica(), t.key)
		if err != nil {
			return nil, err
		}
		return v.deletedBundle(d), nil
	case opVersions, opList, opListDeleted:
		return v.page(t, query)
	case opRotation:
		return v.rotationPolicy(t.key)
	case opSetRotation:
		return decodeThen(body, func(q rotationPolicy) (any, error) { return v.setRotationPolicy(t.key, q) })
	case opRotate:
		return v.rotate(t.key)
	case opAttestation:
		return v.attest(t)
	default:
		return decodeThen(body, func(q operationRequest) (any, error) {
			if err := checkAlgorithm(q.Algorithm, query.Get("api-version")); err != nil {
				return nil, err
			}
			return v.compute(t, q)
		})
	}
}

func decodeThen[T any](body []byte, f func(T) (any, error)) (any, error) {
	var q T
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, badParameter("The request body is not valid: %v", err)
	}
	return f(q)
}

func (v *Vault) create(name string, q createRequest) (any, error) {
	q.Kty = v.normalizedKty(q.Kty)
	if err := v.checkType(q.Kty); err != nil {
		return nil, err
	}
	if err := v.mayWrite(v.current(), name); err != nil {
		return nil, err
	}
	m, err := generateMaterial(q)
	if err != nil {
		return nil, err
	}
	ver, err := v.newVersion(q.Kty, q.KeyOps, m)
	if err != nil {
		return nil, err
	}
	ver.release = q.ReleasePolicy.normalized()
	return v.store(name, ver, q.Attributes, q.Tags)
}

// normalizedKty returns the kty that a service creates for a request: a Managed HSM has
// only HSM keys, and creates them for the other names, too.
func (v *Vault) normalizedKty(kty string) string {
	if v.config.Profile == ManagedHSM && slices.Contains([]string{"RSA", "EC", "oct"}, kty) {
		return kty + hsmSuffix
	}
	return kty
}

// importKey imports a transfer blob (key_hsm) as an HSM key, or a plain JWK.
func (v *Vault) importKey(name string, q importRequest) (any, error) {
	if q.Key.Kty == "" {
		return nil, v.noKey()
	}
	if q.Key.Kty = v.normalizedKty(q.Key.Kty); q.HSM && !isHSM(q.Key.Kty) {
		q.Key.Kty += hsmSuffix
	}
	if err := v.checkType(q.Key.Kty); err != nil {
		return nil, err
	}
	if slices.Contains(q.Key.KeyOps, "import") {
		return nil, badParameter("A key exchange key is created in the vault; it cannot be imported.")
	}
	if err := v.mayWrite(v.current(), name); err != nil {
		return nil, err
	}
	m, err := v.importedMaterial(q.Key)
	if err != nil {
		return nil, err
	}
	ver, err := v.newVersion(q.Key.Kty, q.Key.KeyOps, m)
	if err != nil {
		return nil, err
	}
	ver.imported, ver.release = true, q.ReleasePolicy.normalized()
	return v.store(name, ver, q.Attributes, q.Tags)
}

func (v *Vault) noKey() *apiError {
	if v.config.Profile == ManagedHSM {
		return badParameter("JSON Web Key: kty is missing")
	}
	return badParameter(`The property "key" must be a valid JsonWebKey object.`)
}

func (v *Vault) importedMaterial(k jsonWebKey) (material, error) {
	switch {
	case len(k.KeyHSM) == 0:
		return materialFromJWK(k)
	case !isHSM(k.Kty):
		return nil, badParameter("key_hsm needs kty %s%s, not %s.", k.Kty, hsmSuffix, k.Kty)
	}
	m, err := v.openBlob(k.KeyHSM, family(k.Kty))
	if err != nil {
		return nil, err
	}
	if ec, ok := m.(*ecKey); ok && k.Crv != ec.curve() {
		return nil, badParameter("The key in key_hsm is on %s, and crv is %q.", ec.curve(), k.Crv)
	}
	return m, nil
}

// store finishes a new version by the request's attributes and makes it newest.
func (v *Vault) store(name string, ver *version, a attributes, tags map[string]string) (any, error) {
	ver.apply(a)
	ver.tags = maps.Clone(tags)
	if err := ver.check(); err != nil {
		return nil, err
	}
	if err := v.change(func(s *state) error { return v.add(s, name, ver) }); err != nil {
		return nil, err
	}
	return v.bundle(name, ver), nil
}

func checkKty(kty string) error {
	known := []string{"RSA", "RSA-HSM", "EC", "EC-HSM", "oct-HSM"}
	if !slices.Contains(known, kty) {
		return badParameter("The emulator holds %s keys, not %q.", strings.Join(known, ", "), kty)
	}
	return nil
}

// checkType refuses a kty that the profile does not have.
func (v *Vault) checkType(kty string) error {
	if err := checkKty(kty); err != nil {
		return err
	}
	hsm := v.config.Profile == ManagedHSM
	switch {
	case hsm && !isHSM(kty):
		return badParameter("A Managed HSM holds HSM keys only: kty must be %s%s.", kty, hsmSuffix)
	case !hsm && family(kty) == "oct":
		return badParameter("Property  has invalid value\r\n")
	case v.config.Profile == KeyVaultStandard && isHSM(kty):
		return badParameter("HSM-protected keys are not supported in the standard SKU: use a Premium vault or a " +
			"Managed HSM.")
	}
	return nil
}

func (v *Vault) get(t target) (any, error) {
	k, ver, err := v.replica().version(t.key, t.version)
	if err != nil {
		return nil, err
	}
	return v.bundle(k.name, ver), nil
}

func (v *Vault) update(t target, q updateRequest) (any, error) {
	var bundle keyBundle
	err := v.change(func(s *state) error {
		k, old, err := s.version(t.key, t.version)
		if err != nil {
			return err
		}
		ver := *old
		if q.KeyOps != nil {
			ver.ops = slices.Clone(q.KeyOps)
		}
		if err := ver.repolicy(q.ReleasePolicy); err != nil {
			return err
		}
		if q.Tags != nil {
			ver.tags = maps.Clone(q.Tags)
		}
		ver.apply(q.Attributes)
		ver.updated = v.opts.Now().Unix()
		if err := ver.check(); err != nil {
			return err
		}
		s.replace(k, &ver)
		bundle = v.bundle(k.name, &ver)
		return nil
	})
	return bundle, err
}

func (v *Vault) remove(name string) (any, error) {
	var bundle deletedBundle
	err := v.change(func(s *state) error {
		d, err := v.delete(s, name)
		if err == nil {
			bundle = v.deletedBundle(d)
		}
		return err
	})
	return bundle, err
}

func (v *Vault) restore(name string) (any, error) {
	var bundle keyBundle
	err := v.change(func(s *state) error {
		k, err := v.recover(s, name)
		if err == nil {
			bundle = v.bundle(k.name, k.newest())
		}
		return err
	})
	return bundle, err
}

func (ver *version) apply(a attributes) {
	if a.Enabled != nil {
		ver.enabled = *a.Enabled
	}
	if a.NotBefore != nil {
		ver.nbf = a.NotBefore
	}
	if a.Expires != nil {
		ver.exp = a.Expires
	}
	if a.Exportable != nil {
		ver.exportable = *a.Exportable
	}
}

// check refuses operations and tags the service would refuse.
func (ver *version) check() error {
	allowed := append(ver.held.operations(), "import", "export")
	if ver.held.family() == "oct" {
		allowed = append(allowed, "deriveKey")
	}
	for _, op := range ver.ops {
		if !slices.Contains(allowed, op) {
			return badParameter("The key operation %q is not one of a %s key; its operations are %s.",
				op, ver.kty, strings.Join(allowed, ", "))
		}
	}
	if slices.Contains(ver.ops, "import") && (len(ver.ops) > 1 || ver.kty != "RSA-HSM") {
		return badParameter("The operation import is for RSA-HSM keys and excludes every other operation.")
	}
	if len(ver.tags) > 15 {
		return badParameter("A key has at most 15 tags, not %d.", len(ver.tags))
	}
	for name, value := range ver.tags {
		if len([]rune(name)) > 256 || len([]rune(value)) > 256 {
			return badParameter("The name and the value of a tag have at most 256 characters.")
		}
	}
	return nil
}

func (v *Vault) id(segments ...string) string {
	return "https://" + v.config.Host + "/" + strings.Join(segments, "/")
}

func (v *Vault) bundle(name string, ver *version) keyBundle {
	ops := slices.Clone(ver.ops)
	if v.config.Profile == ManagedHSM { // its order is random
		mathrand.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
	}
	key := jsonWebKey{KID: v.id("keys", name, ver.id), Kty: ver.kty, KeyOps: ops}
	ver.shown.show(&key)
	if v.config.Profile != ManagedHSM && ver.kty == "RSA-HSM" && !ver.imported {
		key.E = leftPad(key.E, 4) // "AAEAAQ": a vault shows its HSM's form
	}
	return keyBundle{Key: key, Attributes: v.attributes(ver), Tags: ver.tags, ReleasePolicy: ver.release}
}

func (v *Vault) attributes(ver *version) attributes {
	enabled, exportable := ver.enabled, ver.exportable
	skew := int64(v.created.Seconds())
	a := attributes{
		Enabled: &enabled, NotBefore: ver.nbf, Expires: ver.exp,
		Created: ver.created + skew, Updated: ver.updated + skew,
		RecoveryLevel: v.recoveryLevel(), RecoverableDays: v.recoverableDays(),
		Exportable: &exportable,
	}
	if v.config.Profile != ManagedHSM && before75(v.apiVersion) {
		if !exportable {
			a.Exportable = nil
		}
		return a
	}
	if v.config.Profile != ManagedHSM {
		a.HSMPlatform = "0"
		if isHSM(ver.kty) {
			a.HSMPlatform = "2"
		}
	}
	return a
}

func (v *Vault) deletedBundle(d *deletedEntry) deletedBundle {
	bundle := v.bundle(d.entry.name, d.entry.newest())
	if v.config.Profile != ManagedHSM {
		bundle.ReleasePolicy = nil
	}
	return deletedBundle{
		RecoveryID:         v.id("deletedkeys", d.entry.name),
		DeletedDate:        d.at.Unix(),
		ScheduledPurgeDate: d.purgeAt.Unix(),
		keyBundle:          bundle,
	}
}

func (v *Vault) recoverableDays() int {
	if v.config.RecoverableDays == 0 {
		return maxRecoverableDays
	}
	return v.config.RecoverableDays
}

// recoveryLevel contains Purgeable unless purge protection is on, and Customized if
// deleted keys stay for less than the default.
func (v *Vault) recoveryLevel() string {
	level := "Recoverable"
	if v.recoverableDays() != maxRecoverableDays {
		level = "CustomizedRecoverable"
	}
	if !v.purgeProtected() {
		level += "+Purgeable"
	}
	return level
}
