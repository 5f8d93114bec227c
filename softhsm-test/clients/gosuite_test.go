//go:build clients

package clients

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// doing is one operation, as a user of azkeys writes it.
type doing func(context.Context, *goVault) error

// goVault is one profile's vault, the keys created in it so far, and its neighbours.
type goVault struct {
	profile
	setup   setup
	cred    azcore.TokenCredential
	keys    *azkeys.Client
	made    map[string]azkeys.KeyBundle
	results map[string][]byte
	gcm     azkeys.KeyOperationResult
}

// goSuite runs the operations of the setup file and prints one result per line.
func goSuite(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var in setup
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	known := map[string]doing{}
	for _, some := range []map[string]doing{goKeys(), goUses(), goErrors(), goSignIn()} {
		maps.Copy(known, some)
	}
	for _, p := range in.Profiles {
		v := &goVault{profile: p, setup: in, made: map[string]azkeys.KeyBundle{}, results: map[string][]byte{}}
		if v.cred, v.keys, err = connect(p.Vault, in.ClientID, goOptions()); err != nil {
			return err
		}
		for _, name := range p.Operations {
			r := result{Profile: p.Name, Operation: name, Outcome: "missing"}
			if do, ok := known[name]; ok {
				r.Outcome, r.Error = goOutcome(do(context.Background(), v))
			}
			if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// goOptions make the SDK retry once, and soon.
func goOptions() azcore.ClientOptions {
	return azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: 1, RetryDelay: 10 * time.Millisecond}}
}

// errNoMethod marks an operation that the client does not have.
var errNoMethod = errors.New("not in this client")

// mistakeError is a check of the suite that failed.
type mistakeError struct{ what string }

func (e *mistakeError) Error() string { return e.what }

// want turns a failed check into an error.
func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return &mistakeError{fmt.Sprintf(format, args...)}
}

func goOutcome(err error) (string, sdkReport) {
	var response *azcore.ResponseError
	var mistake *mistakeError
	switch {
	case err == nil:
		return "ok", sdkReport{}
	case errors.Is(err, errNoMethod):
		return "absent", sdkReport{}
	case errors.As(err, &mistake):
		return "error", sdkReport{Class: "mistake", Message: mistake.what}
	case !errors.As(err, &response):
		return "error", sdkReport{Class: fmt.Sprintf("%T", err), Message: err.Error()}
	}
	body, readErr := io.ReadAll(response.RawResponse.Body)
	return "error", sdkReport{
		Class: "azcore.ResponseError", Status: response.StatusCode, Code: response.ErrorCode,
		Message: errors.Join(err, readErr).Error(), Body: string(body),
	}
}

// at returns a client of a neighbouring vault.
func (v *goVault) at(url string) *azkeys.Client {
	_, keys, err := connect(url, v.setup.ClientID, goOptions())
	if err != nil {
		panic(err) // the URL is from the setup
	}
	return keys
}

// with returns a client of this vault with another credential.
func (v *goVault) with(cred azcore.TokenCredential, version string) *azkeys.Client {
	options := goOptions()
	options.APIVersion = version
	keys, err := azkeys.NewClient(v.Vault, cred, &azkeys.ClientOptions{ClientOptions: options})
	if err != nil {
		panic(err)
	}
	return keys
}

// create creates a key and remembers it under its name.
func (v *goVault) create(ctx context.Context, name, kty string,
	more azkeys.CreateKeyParameters) (azkeys.KeyBundle, error) {
	more.Kty = to.Ptr(azkeys.KeyType(kty))
	res, err := v.keys.CreateKey(ctx, name, more, nil)
	if err == nil {
		v.made[name] = res.KeyBundle
	}
	return res.KeyBundle, err
}

// bring imports a key and remembers it in the same way.
func (v *goVault) bring(ctx context.Context, name string, q azkeys.ImportKeyParameters) (azkeys.KeyBundle, error) {
	res, err := v.keys.ImportKey(ctx, name, q, nil)
	if err == nil {
		v.made[name] = res.KeyBundle
	}
	return res.KeyBundle, err
}

// version returns the version of a key created here; "" for another key.
func (v *goVault) version(name string) string {
	if k, ok := v.made[name]; ok {
		return k.Key.KID.Version()
	}
	return ""
}

func bits(n int32) azkeys.CreateKeyParameters { return azkeys.CreateKeyParameters{KeySize: to.Ptr(n)} }

func curve(name azkeys.CurveName) azkeys.CreateKeyParameters {
	return azkeys.CreateKeyParameters{Curve: to.Ptr(name)}
}

func ops(names ...azkeys.KeyOperation) (list []*azkeys.KeyOperation) {
	for _, name := range names {
		list = append(list, to.Ptr(name))
	}
	return list
}
