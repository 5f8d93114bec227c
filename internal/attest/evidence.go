package attest

import (
	"bytes"
	"compress/flate"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Results of an attestation, as they are recorded.
const (
	Verified    = "verified"
	Refused     = "refused"     // it does not say what it must
	Unavailable = "unavailable" // the service did not answer with one
)

// Fields of an audit entry about an attestation.
const (
	fieldResult   = "attestation"
	fieldWhy      = "attestation_why"
	fieldSays     = "attestation_says"
	fieldEvidence = "attestation_evidence"
)

// Evidence is an attestation as it is recorded: what came of it, and the document itself, so that it can be verified
// again.
type Evidence struct {
	Result string
	Why    string // unless verified
	Says   string // if verified
	packed string
}

// Judge verifies a document for the record. unavailable is why there is no document.
func Judge(raw string, unavailable error, roots []Root, want Expect, at time.Time) Evidence {
	if unavailable != nil {
		return Evidence{Result: Unavailable, Why: unavailable.Error()}
	}
	e := Evidence{Result: Refused}
	if doc, err := Parse([]byte(raw)); err == nil {
		e.packed = doc.pack()
	}
	f, err := Verify([]byte(raw), roots, want, at)
	if err != nil {
		e.Why = err.Error()
		return e
	}
	e.Result, e.Says = Verified, f.String()
	return e
}

// String says in words what an attestation says.
func (f Facts) String() string {
	origin := "imported into the HSM"
	if f.Local {
		origin = "made in the HSM"
	}
	by := f.Root
	if f.TestRoot {
		by += ", for tests only: it proves nothing"
	}
	return fmt.Sprintf("not extractable, %s; %s, partition root %s, root %s", origin, f.HSM, f.PartitionRoot, by)
}

// Fields are the evidence in an audit entry.
func (e Evidence) Fields() map[string]string {
	all := map[string]string{fieldResult: e.Result}
	for name, value := range map[string]string{fieldWhy: e.Why, fieldSays: e.Says, fieldEvidence: e.packed} {
		if value != "" {
			all[name] = value
		}
	}
	return all
}

// FromFields reads what Fields wrote. Without it, ok is false.
func FromFields(f map[string]string) (e Evidence, ok bool) {
	result, ok := f[fieldResult]
	return Evidence{Result: result, Why: f[fieldWhy], Says: f[fieldSays], packed: f[fieldEvidence]}, ok
}

// Verify verifies the recorded document again, as of the time when it was recorded.
func (e Evidence) Verify(roots []Root, want Expect, at time.Time) (Facts, error) {
	if e.packed == "" {
		return Facts{}, errors.New("the entry holds no attestation")
	}
	doc, err := unpack(e.packed)
	if err != nil {
		return Facts{}, fmt.Errorf("the attestation in the entry cannot be read: %w", err)
	}
	return doc.verify(roots, want, at)
}

// pack is a document as short text: the statement is mostly zeros.
func (d Document) pack() string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return "" // cannot happen: the level is valid
	}
	plain := append(binary.BigEndian.AppendUint32(nil, uint32(len(d.Statement))), d.Statement...)
	for _, c := range d.Certificates {
		plain = append(plain, c.Raw...)
	}
	_, _ = w.Write(plain)
	_ = w.Close() // a bytes.Buffer takes everything
	return base64.RawStdEncoding.EncodeToString(b.Bytes())
}

func unpack(text string) (d Document, err error) {
	packed, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return d, err
	}
	plain, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), key.MaxAttestation))
	if err != nil {
		return d, err
	}
	if len(plain) < 4 || uint64(len(plain)-4) < uint64(binary.BigEndian.Uint32(plain)) {
		return d, errors.New("it is cut short")
	}
	end := 4 + int(binary.BigEndian.Uint32(plain))
	d.Statement = plain[4:end]
	if d.Certificates, err = x509.ParseCertificates(plain[end:]); err != nil {
		return d, err
	}
	if len(d.Certificates) > maxCertificates {
		return d, fmt.Errorf("it has %d certificates", len(d.Certificates))
	}
	return d, nil
}
