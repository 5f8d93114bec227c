package emulator_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
)

// verifyAttestation checks one statement as a verifier would, with pinned roots, and returns its attributes. hash is
// 0 for firmware 2.x.
func verifyAttestation(blob, chain, vendorRoot, serviceRoot []byte, hash crypto.Hash) (map[uint32][]byte, error) {
	certificates, err := parsePEM(chain)
	if err != nil {
		return nil, err
	}
	var partitions [][]byte
	for _, root := range [][]byte{vendorRoot, serviceRoot} {
		pinned, err := parsePEM(root)
		if err != nil {
			return nil, err
		}
		leaf, err := leafUnder(pinned[0], certificates)
		if err != nil {
			return nil, err
		}
		public, ok := leaf.PublicKey.(*rsa.PublicKey)
		if !ok {
			return nil, errors.New("a partition key is no RSA key")
		}
		sum := sha256.Sum256(blob[:len(blob)-256])
		if err := rsa.VerifyPKCS1v15(public, hash, sum[:], blob[len(blob)-256:]); err != nil {
			return nil, err
		}
		partitions = append(partitions, leaf.RawSubjectPublicKeyInfo)
	}
	if !bytes.Equal(partitions[0], partitions[1]) {
		return nil, errors.New("the two chains end at different keys")
	}
	return readAttributes(blob[:len(blob)-256])
}

func parsePEM(data []byte) (out []*x509.Certificate, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// leafUnder follows signatures down from a root.
func leafUnder(root *x509.Certificate, all []*x509.Certificate) (*x509.Certificate, error) {
	for at, steps := root, 0; steps < 5; steps++ {
		i := slices.IndexFunc(all, func(c *x509.Certificate) bool {
			return !c.Equal(root) && c.CheckSignatureFrom(at) == nil
		})
		if i < 0 {
			if at == root {
				break
			}
			return at, nil
		}
		at = all[i]
	}
	return nil, fmt.Errorf("no chain from %s", root.Subject)
}

func readAttributes(data []byte) (map[uint32][]byte, error) {
	count := binary.BigEndian.Uint32(data[24:])
	out := map[uint32][]byte{}
	for rest := data[32:]; count > 0; count-- {
		if len(rest) < 8 || uint64(len(rest)) < 8+uint64(binary.BigEndian.Uint32(rest[4:])) {
			return nil, errors.New("an attribute is cut short")
		}
		kind, n := binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:])
		out[kind] = rest[8 : 8+n]
		rest = rest[8+n:]
	}
	return out, nil
}

func TestAnAttestationShowsWhereAKeyIsFrom(t *testing.T) {
	for firmware, hash := range map[emulator.Firmware]crypto.Hash{emulator.Firmware2: 0,
		emulator.Firmware3: crypto.SHA256} {
		e := start(t, emulator.Options{AttestationFirmware: firmware})
		c := newClient(t, e, managedHSM)
		kek := createKEK(t, c)
		vendor, service, err := e.AttestationRoots()
		must(t, err)
		for _, s := range []sample{newRSASample(t), newECSample(t, elliptic.P384()), newOctSample(t, 256)} {
			for how, key := range origins(t, c, kek, s, azkeys.KeyType(s.family+"-HSM")) {
				t.Run(fmt.Sprintf("firmware %d %s %s", firmware+2, s.family, how), func(t *testing.T) {
					res, err := c.GetKeyAttestation(t.Context(), how, key.Key.KID.Version(), nil)
					must(t, err)
					a := res.Attributes.Attestation
					if *a.Version != "MRVL-1" || (a.PublicKeyAttestation == nil) != (s.family == "oct") {
						t.Errorf("attestation: %+v", a)
					}
					for class, blob := range statements(a, s.family) {
						got, err := verifyAttestation(blob, a.CertificatePEMFile, vendor, service, hash)
						must(t, err)
						checkStatement(t, got, class, how, key)
						spoiled := bytes.Clone(blob)
						spoiled[40] ^= 1
						if _, err := verifyAttestation(spoiled, a.CertificatePEMFile, vendor, service,
							hash); err == nil {
							t.Errorf("a changed statement of class %d verifies", class)
						}
					}
				})
			}
		}
	}
}

// Classes of PKCS#11.
const publicClass, privateClass, secretClass = 2, 3, 4

// statements returns the statements of an attestation, by the class of their object.
func statements(a *azkeys.KeyAttestation, family string) map[byte][]byte {
	if family == "oct" {
		return map[byte][]byte{secretClass: a.PrivateKeyAttestation}
	}
	return map[byte][]byte{privateClass: a.PrivateKeyAttestation, publicClass: a.PublicKeyAttestation}
}

// checkStatement compares the attributes with the key that the service shows.
func checkStatement(t *testing.T, got map[uint32][]byte, class byte, how string, key azkeys.KeyBundle) {
	t.Helper()
	flag := func(on bool) []byte { return []byte{map[bool]byte{true: 1}[on]} }
	id := "/keys/" + how + "/" + key.Key.KID.Version()
	want := map[uint32][]byte{
		0x0:   {class},
		0x102: append([]byte(id), make([]byte, 128-len(id))...),
		0x162: flag(false),
		0x163: flag(how == "created"),
		0x164: flag(how == "created" && class != publicClass),
		0x120: key.Key.N,
	}
	switch {
	case class == secretClass:
		want[0x161] = []byte{0, 0, 0, 32}
	case key.Key.Crv != nil:
		// The X9.62 parameters are the curve's name, and the point is in an OCTET STRING.
		want[0x180] = der(t, asn1.ObjectIdentifier{1, 3, 132, 0, 34}) // secp384r1
		want[0x181] = der(t, slices.Concat([]byte{4}, key.Key.X, key.Key.Y))
	default:
		want[0x122] = []byte{1, 0, 1}
	}
	for attribute, value := range want {
		if !bytes.Equal(got[attribute], value) {
			t.Errorf("class %d has attribute %#x %x, want %x", class, attribute, got[attribute], value)
		}
	}
}

func der(t *testing.T, value any) []byte {
	t.Helper()
	b, err := asn1.Marshal(value)
	must(t, err)
	return b
}

func TestAnAttestationShowsWhatTheHSMHoldsNotWhatTheServiceShows(t *testing.T) {
	e := start(t, emulator.Options{})
	id := foreign(t, e, managedHSM, "k")
	must(t, e.Vault(managedHSM).SwapModulus("k", id))
	res, err := newClient(t, e, managedHSM).GetKeyAttestation(t.Context(), "k", id, nil)
	must(t, err)
	got, err := readAttributes(res.Attributes.Attestation.PrivateKeyAttestation)
	must(t, err)
	if bytes.Equal(got[0x120], res.Key.N) {
		t.Error("the attestation repeats the swapped modulus")
	}
}

func TestTheHSMsCertificateIsX509v1(t *testing.T) {
	e := start(t, emulator.Options{})
	id := foreign(t, e, managedHSM, "k")
	res, err := newClient(t, e, managedHSM).GetKeyAttestation(t.Context(), "k", id, nil)
	must(t, err)
	certificates, err := parsePEM(res.Attributes.Attestation.CertificatePEMFile)
	must(t, err)
	var versions []int
	for _, c := range certificates {
		versions = append(versions, c.Version)
	}
	if want := []int{3, 1, 3, 3, 3}; !slices.Equal(versions, want) {
		t.Errorf("versions %v, want %v", versions, want)
	}
}

func TestAKeyVaultHasNoAttestation(t *testing.T) {
	e := start(t, emulator.Options{})
	id := foreign(t, e, premium, "k")
	_, err := newClient(t, e, premium).GetKeyAttestation(t.Context(), "k", id, nil)
	wantError(t, err, 400, "BadParameter", "")
}
