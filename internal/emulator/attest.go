package emulator

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
)

// Firmware is the HSM firmware whose signature style attestations have.
type Firmware int

const (
	// Firmware2 signs PKCS#1 v1.5 over the bare SHA-256, without DigestInfo.
	Firmware2 Firmware = iota
	// Firmware3 signs PKCS#1 v1.5 as specified.
	Firmware3
)

// Attributes of an attestation, as the vendor's HSM numbers them: PKCS#11's where
// it has them.
const (
	attrClass            = 0x0
	attrToken            = 0x1
	attrPrivate          = 0x2
	attrLabel            = 0x3
	attrKeyType          = 0x100
	attrID               = 0x102
	attrSensitive        = 0x103
	attrEncrypt          = 0x104
	attrDecrypt          = 0x105
	attrWrap             = 0x106
	attrUnwrap           = 0x107
	attrSign             = 0x108
	attrVerify           = 0x10a
	attrModulus          = 0x120
	attrModulusBits      = 0x121
	attrPublicExponent   = 0x122
	attrValueLength      = 0x161
	attrExtractable      = 0x162
	attrLocal            = 0x163
	attrNeverExtractable = 0x164
	attrAlwaysSensitive  = 0x165
	attrECParams         = 0x180
	attrECPoint          = 0x181
)

const (
	attestationVersion = "MRVL-1"
	classPublic        = 2
	classPrivate       = 3
	classSecret        = 4
	textAttribute      = 128 // bytes of label and id, padded with zeros
	// attestationData is how long the signed part is at least, zeros after the
	// attributes included.
	attestationData = 1267
)

type attestation struct {
	CertificatePEMFile    octets `json:"certificatePemFile"`
	PrivateKeyAttestation octets `json:"privateKeyAttestation"`
	PublicKeyAttestation  octets `json:"publicKeyAttestation,omitempty"`
	Version               string `json:"version"`
}

// attest answers with the version and the HSM's attestation of its keys.
func (v *Vault) attest(t target) (any, error) {
	if v.config.Profile != ManagedHSM {
		return nil, badParameter("Key attestation needs a Managed HSM.")
	}
	k, ver, err := v.replica().version(t.key, t.version)
	if err != nil {
		return nil, err
	}
	hsm, err := v.attester()
	if err != nil {
		return nil, err
	}
	a := attestation{CertificatePEMFile: hsm.pem(), Version: attestationVersion}
	private := byte(classPrivate)
	if ver.held.family() == "oct" {
		private = classSecret
	} else {
		a.PublicKeyAttestation, err = hsm.statement(k.name, ver, classPublic, v.opts.AttestationFirmware)
		if err != nil {
			return nil, err
		}
	}
	if a.PrivateKeyAttestation, err = hsm.statement(k.name, ver, private, v.opts.AttestationFirmware); err != nil {
		return nil, err
	}
	bundle := v.bundle(k.name, ver)
	bundle.Attributes.Attestation = &a
	return bundle, nil
}

// statement is data ‖ signature. The data are a header of 32 bytes, attributes and
// zeros. Of the header's last four 32-bit numbers the third is the count of
// attributes, and the first and fourth are their length and 28 or 16 bytes more.
func (h *attester) statement(name string, ver *version, class byte, firmware Firmware) ([]byte, error) {
	attributes, count, err := keyAttributes(name, ver, class)
	if err != nil {
		return nil, err
	}
	data := make([]byte, 32, attestationData)
	binary.BigEndian.PutUint32(data[16:], uint32(len(attributes)+28))
	binary.BigEndian.PutUint32(data[20:], 14)
	binary.BigEndian.PutUint32(data[24:], uint32(count))
	binary.BigEndian.PutUint32(data[28:], uint32(len(attributes)+16))
	data = append(data, attributes...)
	data = append(data, make([]byte, max(0, attestationData-len(data)))...)
	sum := sha256.Sum256(data)
	hash := crypto.SHA256
	if firmware == Firmware2 {
		hash = 0
	}
	signature, err := rsa.SignPKCS1v15(rand.Reader, h.partition, hash, sum[:])
	if err != nil {
		return nil, fmt.Errorf("signing the attestation of %s: %w", name, err)
	}
	return append(data, signature...), nil
}

// attributeList writes attributes: type, length, value.
type attributeList struct {
	bytes.Buffer
	count int
}

func (l *attributeList) add(kind uint32, value []byte) {
	l.Write(binary.BigEndian.AppendUint32(nil, kind))
	l.Write(binary.BigEndian.AppendUint32(nil, uint32(len(value))))
	l.Write(value)
	l.count++
}

func (l *attributeList) addFlag(kind uint32, on bool) {
	value := []byte{0}
	if on {
		value[0] = 1
	}
	l.add(kind, value)
}

func (l *attributeList) addText(kind uint32, text string) {
	l.add(kind, append([]byte(text), make([]byte, max(0, textAttribute-len(text)))...))
}

func (l *attributeList) addNumber(kind uint32, n int) {
	l.add(kind, binary.BigEndian.AppendUint32(nil, uint32(n)))
}

// keyAttributes returns the attributes in the HSM's order. An imported key was not
// generated in the HSM (LOCAL), and was outside once (NEVER_EXTRACTABLE,
// ALWAYS_SENSITIVE).
func keyAttributes(name string, ver *version, class byte) ([]byte, int, error) {
	var l attributeList
	secret, public := class != classPublic, class != classPrivate
	l.add(attrClass, []byte{class})
	l.add(attrKeyType, []byte{map[string]byte{"RSA": 0x00, "EC": 0x03, "oct": 0x1f}[ver.held.family()]})
	l.addFlag(attrToken, true)
	l.addFlag(attrPrivate, true)
	l.addFlag(attrEncrypt, public && ver.may("encrypt"))
	l.addFlag(attrDecrypt, secret && ver.may("decrypt"))
	l.addFlag(attrWrap, public && ver.may("wrapKey"))
	l.addFlag(attrUnwrap, secret && (ver.may("unwrapKey") || ver.may("import")))
	l.addFlag(attrSign, secret && ver.may("sign"))
	l.addFlag(attrVerify, public && ver.may("verify"))
	l.addFlag(attrLocal, !ver.imported)
	l.addFlag(attrSensitive, secret)
	l.addFlag(attrExtractable, false)
	l.addText(attrLabel, "customer_key")
	l.addText(attrID, "/keys/"+name+"/"+ver.id)
	if err := l.addPublic(ver.held); err != nil {
		return nil, 0, err
	}
	l.addFlag(attrAlwaysSensitive, secret && !ver.imported)
	l.addFlag(attrNeverExtractable, secret && !ver.imported)
	return l.Bytes(), l.count, nil
}

// addPublic writes the attributes that identify a key's material.
func (l *attributeList) addPublic(m material) error {
	var k jsonWebKey
	m.show(&k)
	switch m.family() {
	case "RSA":
		l.add(attrModulus, k.N)
		l.addNumber(attrModulusBits, new(big.Int).SetBytes(k.N).BitLen())
		l.add(attrPublicExponent, leftPad(k.E, 3))
	case "EC":
		params, err := curveParams(k.Crv)
		if err != nil {
			return err
		}
		l.add(attrECParams, params)
		point, err := octetString(append(append([]byte{4}, k.X...), k.Y...))
		if err != nil {
			return err
		}
		l.add(attrECPoint, point)
	default:
		raw, err := m.marshal()
		if err != nil {
			return err
		}
		l.addNumber(attrValueLength, len(raw))
	}
	return nil
}

// AttestationRoots returns, in PEM, the root certificates of the two chains of every
// attestation here: the HSM vendor's and the service's. A verifier pins them in place
// of the real ones.
func (e *Emulator) AttestationRoots() (vendor, service []byte, err error) {
	h, err := e.attester()
	if err != nil {
		return nil, nil, err
	}
	encode := func(der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return encode(h.vendorRoot), encode(h.serviceRoot), nil
}
