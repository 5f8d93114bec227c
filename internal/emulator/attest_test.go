package emulator_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
)

// verifyAttestation checks one statement as a verifier would, with pinned roots,
// and gives its attributes. hash is 0 for firmware 2.x.
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

// leafUnder follows signatures from a root down.
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

func TestAnAttestationTellsWhereAKeyIsFrom(t *testing.T) {
	for firmware, hash := range map[emulator.Firmware]crypto.Hash{emulator.Firmware2: 0, emulator.Firmware3: crypto.SHA256} {
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
					got, err := verifyAttestation(a.PrivateKeyAttestation, a.CertificatePEMFile, vendor, service, hash)
					must(t, err)
					local := byte(0)
					if how == "created" {
						local = 1
					}
					if id := strings.TrimRight(string(got[0x102]), "\x00"); id != "/keys/"+how+"/"+key.Key.KID.Version() || len(got[0x102]) != 128 {
						t.Errorf("id %q", id)
					}
					if !bytes.Equal(got[0x120], key.Key.N) || !bytes.Equal(got[0x162], []byte{0}) ||
						!bytes.Equal(got[0x163], []byte{local}) || !bytes.Equal(got[0x164], []byte{local}) {
						t.Errorf("modulus %x, EXTRACTABLE %x, LOCAL %x, NEVER_EXTRACTABLE %x", got[0x120], got[0x162], got[0x163], got[0x164])
					}
					spoiled := bytes.Clone(a.PrivateKeyAttestation)
					spoiled[40] ^= 1
					if _, err := verifyAttestation(spoiled, a.CertificatePEMFile, vendor, service, hash); err == nil {
						t.Error("a changed attestation verifies")
					}
				})
			}
		}
	}
}

func TestAnAttestationSaysWhatTheHSMHoldsNotWhatTheServiceShows(t *testing.T) {
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
