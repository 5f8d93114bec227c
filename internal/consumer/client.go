package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/policy"
	armruntime "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/keyd-project/keyd/internal/vault"
)

const (
	tryTimeout        = 30 * time.Second // of one try of a request
	longestRetryDelay = 60 * time.Second // between two tries; a longer Retry-After ends the call
	mostPages         = 500              // of one list
)

// ClientConfig says how a Client reaches Resource Manager.
type ClientConfig struct {
	Cloud      string // public, china or usgovernment; "": public
	Credential azcore.TokenCredential
	Transport  azpolicy.Transporter // must not follow redirects (see vault.HTTPClient)
	Budget     *Budget              // shared with earlier Clients, so that a reload gives keyd no second budget
	Metrics    *Metrics             // nil: none
	Logger     *slog.Logger         // nil: none
}

// Client talks to Azure's Resource Manager. It is safe for concurrent use.
type Client struct {
	endpoint string // https://HOST, without a slash at the end
	pipeline runtime.Pipeline
}

// NewClient makes a client. It sends nothing yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	where, err := cloudNamed(cfg.Cloud)
	if err != nil {
		return nil, err
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	endpoint := strings.TrimSuffix(where.Services[cloud.ResourceManager].Endpoint, "/")
	pipeline, err := armruntime.NewPipeline("keyd", "v1", vault.Tagged(cfg.Credential), runtime.PipelineOptions{
		PerCall:  []azpolicy.Policy{hostGuard{endpoint}},
		PerRetry: []azpolicy.Policy{cfg.Budget, &counter{cfg.Metrics, cfg.Logger}},
	}, &policy.ClientOptions{
		ClientOptions: azcore.ClientOptions{
			Cloud:     where,
			Transport: noting{vault.Capped(cfg.Transport)},
			Retry:     azpolicy.RetryOptions{TryTimeout: tryTimeout, MaxRetryDelay: longestRetryDelay},
			Telemetry: azpolicy.TelemetryOptions{ApplicationID: "keyd"},
		},
		// Registering a provider changes the subscription, and keyd changes nothing but the resource itself.
		DisableRPRegistration: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make a client of Azure's Resource Manager: %w", err)
	}
	return &Client{endpoint, pipeline}, nil
}

func cloudNamed(name string) (cloud.Configuration, error) {
	switch name {
	case "", "public":
		return cloud.AzurePublic, nil
	case "china":
		return cloud.AzureChina, nil
	case "usgovernment":
		return cloud.AzureGovernment, nil
	}
	return cloud.Configuration{}, fmt.Errorf("azure.cloud %q is unknown: write public, china or usgovernment", name)
}

// get reads what is at a path into a struct. query is what goes with the path besides the version of the form.
func (c *Client) get(ctx context.Context, k call, path, query, apiVersion string, into any) error {
	at, err := c.urlOf(path, query, apiVersion)
	if err != nil {
		return k.fail(err)
	}
	return c.do(ctx, k, request{method: http.MethodGet, at: at}, everyDepth, into)
}

// page is a part of a list.
type page[T any] struct {
	Value    *[]T    `json:"value"`
	NextLink *string `json:"nextLink"`
}

// list reads every page of a list.
func list[T any](ctx context.Context, c *Client, k call, path, apiVersion string) ([]T, error) {
	return listWhere[T](ctx, c, k, path, "", apiVersion)
}

// listWhere reads every page of a list that Azure filters; "": it does not.
func listWhere[T any](ctx context.Context, c *Client, k call, path, filter, apiVersion string) ([]T, error) {
	query := ""
	if filter != "" {
		query = "$filter=" + url.QueryEscape(filter)
	}
	at, err := c.urlOf(path, query, apiVersion)
	if err != nil {
		return nil, k.fail(err)
	}
	var all []T
	for range mostPages {
		var p page[T]
		if err := c.do(ctx, k, request{method: http.MethodGet, at: at}, everyDepth, &p); err != nil {
			return nil, err
		}
		if p.Value == nil {
			return nil, k.fail(badAnswerf("value is missing in a page of the list"))
		}
		all = append(all, *p.Value...)
		if p.NextLink == nil || *p.NextLink == "" {
			return all, nil
		}
		at = *p.NextLink
	}
	return nil, k.fail(badAnswerf("the list has more than %d pages", mostPages))
}

// post sends a question that does not fit into a URL. It must be one that changes nothing, because it is sent again
// when the answer is lost. Fields of the answer that are deeper than so many objects and lists are not checked.
func (c *Client) post(
	ctx context.Context, k call, path, apiVersion string, body any, depth int, into any,
) error {
	at, err := c.urlOf(path, "", apiVersion)
	if err != nil {
		return k.fail(err)
	}
	return c.do(ctx, k, request{method: http.MethodPost, at: at, body: body}, depth, into)
}

// do sends one request and reads the answer, which must be 200 with JSON of the struct's types. Down to a depth it must
// have no field twice.
func (c *Client) do(ctx context.Context, k call, q request, depth int, into any) error {
	r, err := c.send(ctx, k, q, http.StatusOK)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(r.body, into); err != nil {
		return k.fail(badAnswerf("%v", err))
	}
	return k.check(onlyOnce(r.body, depth))
}

// request is one request; body is sent as JSON, unless it is nil.
type request struct {
	method, at string
	etag       string // for If-Match; "": none
	body       any
}

// response is an answer with one of the statuses that were wanted.
type response struct {
	status int
	header http.Header
	body   []byte
}

// send sends one request. Any other status than those wanted is an error.
func (c *Client) send(ctx context.Context, k call, r request, wanted ...int) (response, error) {
	req, err := runtime.NewRequest(withCall(ctx, k), r.method, r.at)
	if err != nil {
		return response{}, k.fail(badAnswerf("%q is not a URL", vault.OneLine(r.at)))
	}
	req.Raw().Header.Set("Accept", "application/json")
	if r.etag != "" {
		req.Raw().Header.Set("If-Match", r.etag)
	}
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return response{}, k.fail(err)
		}
		content := streaming.NopCloser(bytes.NewReader(text))
		if err := req.SetBody(content, "application/json"); err != nil {
			return response{}, k.fail(err)
		}
	}
	resp, err := c.pipeline.Do(req) //nolint:bodyclose // Payload below closes it
	if err != nil {
		return response{}, k.fail(err)
	}
	if !runtime.HasStatusCode(resp, wanted...) {
		return response{}, k.fail(runtime.NewResponseError(resp))
	}
	answer, err := runtime.Payload(resp)
	if err != nil {
		return response{}, k.fail(err)
	}
	return response{resp.StatusCode, resp.Header, answer}, nil
}

// urlOf is the URL of a path. Ids come from people and from answers, so they are checked here.
func (c *Client) urlOf(path, query, apiVersion string) (string, error) {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, s := range segments {
		if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "?#%\\") || vault.OneLine(s) != s {
			return "", badAnswerf("%q is not a resource id", vault.OneLine(path))
		}
		segments[i] = url.PathEscape(s)
	}
	values, err := url.ParseQuery(query)
	if err != nil || !strings.HasPrefix(path, "/") {
		return "", badAnswerf("%q is not a resource id", vault.OneLine(path))
	}
	values.Set("api-version", apiVersion)
	return c.endpoint + "/" + strings.Join(segments, "/") + "?" + values.Encode(), nil
}
