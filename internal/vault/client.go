package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyd-project/keyd/internal/key"
)

// APIVersion goes with every request, also with those for the pages of a listing, whose links omit it on a Managed
// HSM. 7.6 is the last of the 7.x line. keyd needs nothing newer, and sovereign clouds get new versions late.
const APIVersion = "7.6"

// DefaultRequestTimeout bounds one try of a request, not its retries.
const DefaultRequestTimeout = 30 * time.Second

// DefaultKEKBits is the size of a KEK that keyd makes.
const DefaultKEKBits = 4096

// longestRetryDelay bounds the pause between two tries. When the vault asks for a longer pause (Retry-After), the
// caller gets an error of class Retry.
const longestRetryDelay = 60 * time.Second

// Config says which vault a Client speaks to.
type Config struct {
	Vault key.Vault
	// KEKName is the key exchange key's name in the vault.
	KEKName string
	// CreateKEK allows the method CreateKEK to make the KEK.
	CreateKEK bool
	// KEKBits is the KEK's size in bits: 2048, 3072 or 4096. keyd makes a KEK of this size and refuses a smaller one.
	// 0: keyd makes a KEK with DefaultKEKBits and accepts any of the three sizes.
	KEKBits int
	// Attested: the KEK and imported versions must be attested. Only a Managed HSM can.
	Attested bool
	// Clock is for the KEK's expiry and the clock skew. nil: time.Now.
	Clock func() time.Time
	// RequestTimeout bounds one try. 0: DefaultRequestTimeout.
	RequestTimeout time.Duration
	// Limits makes calls wait, together with those of the process's other Clients. nil: limits of its own.
	Limits *Limits
	// Calls hears of the calls that use a key. nil: nobody does.
	Calls Calls
}

// Client speaks to one vault. It is safe for concurrent use.
type Client struct {
	cfg      Config
	host     string
	keys     *azkeys.Client
	roles    runtime.Pipeline // for a Managed HSM's own roles
	cred     azcore.TokenCredential
	observer *observer
	retry    policy.RetryOptions
	gate     *gate
}

// New makes a client. It sends nothing yet. transport should not follow redirects (see HTTPClient). m and log may be
// nil.
func New(
	cfg Config, cred azcore.TokenCredential, transport policy.Transporter, m *Metrics, log *slog.Logger,
) (*Client, error) {
	host, err := hostOf(cfg.Vault.URL)
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", cfg.Vault.Name, err)
	}
	switch cfg.KEKBits {
	case 0, 2048, 3072, 4096:
	default:
		return nil, fmt.Errorf(
			"vault %s: a KEK of %d bits: only 2048, 3072 and 4096 exist", cfg.Vault.Name, cfg.KEKBits,
		)
	}
	if !key.ValidName(cfg.KEKName) {
		return nil, fmt.Errorf(
			"vault %s: %q cannot name a KEK: write 1 to 127 letters, digits and hyphens", cfg.Vault.Name,
			cfg.KEKName,
		)
	}
	if cred == nil || transport == nil {
		return nil, fmt.Errorf("vault %s: a credential and a transport are needed", cfg.Vault.Name)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = DefaultRequestTimeout
	}
	if cfg.Limits == nil {
		cfg.Limits = NewLimits()
	}
	if m == nil {
		m = NewMetrics(nil)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m.throttled.WithLabelValues(cfg.Vault.Name) // so that the first answer 429 is an increase
	c := &Client{
		cfg:      cfg,
		host:     host,
		cred:     taggedCredential{cred, true},
		observer: &observer{vault: cfg.Vault.Name, now: cfg.Clock, metrics: m, log: log},
		retry:    policy.RetryOptions{TryTimeout: cfg.RequestTimeout, MaxRetryDelay: longestRetryDelay},
		gate:     cfg.Limits.of(cfg.Vault),
	}
	c.gate.expect(cfg.KEKName, key.Spec(fmt.Sprintf("RSA-%d", c.kekBits())))
	options := azcore.ClientOptions{
		APIVersion:      APIVersion,
		Retry:           c.retry,
		Transport:       cappedTransport{transport},
		Telemetry:       policy.TelemetryOptions{ApplicationID: "keyd"},
		PerCallPolicies: []policy.Policy{originGuard{cfg.Vault.URL, host}},
		PerRetryPolicies: []policy.Policy{
			limiterPolicy{c.gate}, challengePolicy{}, effectPolicy{}, c.observer,
			callPolicy{cfg.Vault.URL, cfg.Calls, cfg.Clock},
		},
	}
	c.roles = rolesPipeline(c, options)
	c.keys, err = azkeys.NewClient(cfg.Vault.URL, c.cred, &azkeys.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", cfg.Vault.Name, err)
	}
	return c, nil
}

// Vault returns the vault that the client speaks to.
func (c *Client) Vault() key.Vault { return c.cfg.Vault }

// ClockSkew is the vault's clock minus the local one by the last answer's Date
// header, good to about a second; known is false before the first answer.
func (c *Client) ClockSkew() (skew time.Duration, known bool) { return c.observer.clockSkew() }

func hostOf(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || !key.SameOrigin(u, text) {
		return "", fmt.Errorf("%q is not a vault's URL: write https://HOST in lower case, without a path", text)
	}
	return u.Host, nil
}

// do runs one call with the pipeline knowing what it is, and gives every error
// its class. The caller's cancellation reaches the request.
func (c *Client) do(ctx context.Context, op operation, name, version string, run func(context.Context) error) error {
	k := call{op: op, key: name, version: version, effect: &effect{}}
	var err error
	if op != opSweep { // which is about no key
		err = checkName(name)
	}
	if err == nil && version != "" {
		err = checkVersion(version)
	}
	if err == nil {
		err = run(withCall(ctx, k))
	}
	if err == nil {
		return nil
	}
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	return c.fail(ctx, k, err)
}

// once turns the SDK's retries off for calls that must not be sent twice.
func (c *Client) once(ctx context.Context) context.Context {
	options := c.retry
	options.MaxRetries = -1
	return policy.WithRetryOptions(ctx, options)
}

func checkName(name string) error {
	if !key.ValidName(name) {
		return refusef("", "%q cannot name a key in a vault: only 1 to 127 letters, digits and hyphens can", name)
	}
	return nil
}

func checkVersion(version string) error {
	if _, err := key.ParseID(version); err != nil {
		return refusef("", "version %v", err)
	}
	return nil
}
