package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
)

// logClouds has, by azure.cloud, the host of Log Analytics' query API and the audience of its tokens, as azlogs has
// them (github.com/Azure/azure-sdk-for-go, sdk/monitor/query/azlogs, cloud_config.go).
var logClouds = map[string]struct{ endpoint, audience string }{
	"":             {"https://api.loganalytics.azure.com", "https://api.loganalytics.io"},
	"public":       {"https://api.loganalytics.azure.com", "https://api.loganalytics.io"},
	"china":        {"https://api.loganalytics.azure.cn", "https://api.loganalytics.azure.cn"},
	"usgovernment": {"https://api.loganalytics.us", "https://api.loganalytics.us"},
}

const (
	logTryTimeout = 90 * time.Second // of one try of a query
	logRetryDelay = 60 * time.Second // between two tries; a longer Retry-After ends the query
	// longestLogBody bounds an answer (16 MiB). A longer one is asked for in smaller pieces of time.
	longestLogBody = 16 << 20
	// mostLogRows is where Log Analytics cuts a result off.
	mostLogRows = 500_000
	// shortestLogPiece is the least piece of time that keyd asks for.
	shortestLogPiece = time.Minute
)

// LogConfig says how a LogClient reaches Log Analytics.
type LogConfig struct {
	Cloud      string // public, china or usgovernment; "": public
	Credential azcore.TokenCredential
	Transport  policy.Transporter // must not follow redirects (see vault.HTTPClient)
}

// LogClient asks Log Analytics workspaces for vaults' audit logs. It is safe for concurrent use.
type LogClient struct {
	endpoint string
	pipeline runtime.Pipeline
}

// NewLogClient makes a client. It sends nothing yet.
func NewLogClient(cfg LogConfig) (*LogClient, error) {
	at, ok := logClouds[cfg.Cloud]
	if !ok {
		return nil, fmt.Errorf("azure.cloud %q is unknown: write public, china or usgovernment", cfg.Cloud)
	}
	token := runtime.NewBearerTokenPolicy(cfg.Credential, []string{at.audience + "/.default"}, nil)
	return &LogClient{at.endpoint, runtime.NewPipeline("keyd", "v1",
		runtime.PipelineOptions{PerRetry: []policy.Policy{token}},
		&policy.ClientOptions{
			Transport: logTransport{cfg.Transport},
			Retry:     policy.RetryOptions{TryTimeout: logTryTimeout, MaxRetryDelay: logRetryDelay},
			Telemetry: policy.TelemetryOptions{ApplicationID: "keyd"},
		})}, nil
}

// rows returns every use in a workspace's audit logs from one time to just before another, in one form of table.
func (c *LogClient) rows(ctx context.Context, workspace string, form logForm, from, to time.Time) ([]logRow, error) {
	rows, err := c.query(ctx, workspace, form, from, to)
	if half := to.Sub(from) / 2; errors.Is(err, errLogTooMuch) && half >= shortestLogPiece {
		middle := from.Add(half.Truncate(time.Second))
		first, err := c.rows(ctx, workspace, form, from, middle)
		if err != nil {
			return nil, err
		}
		second, err := c.rows(ctx, workspace, form, middle, to)
		return append(first, second...), err
	}
	return rows, err
}

// query sends one query. It is sent again when its answer is lost, because it changes nothing.
func (c *LogClient) query(ctx context.Context, workspace string, form logForm, from, to time.Time) ([]logRow, error) {
	fail := func(err error) error { return failLog(workspace, form, err) }
	if !isGUID(workspace) {
		return nil, fail(badAnswerf("%q is not the id of a workspace", workspace))
	}
	req, err := runtime.NewRequest(ctx, http.MethodPost, c.endpoint+"/v1/workspaces/"+workspace+"/query")
	if err != nil {
		return nil, fail(err)
	}
	body, err := json.Marshal(map[string]string{
		"query": form.query(from, to), "timespan": logTime(from) + "/" + logTime(to),
	})
	if err != nil {
		return nil, fail(err)
	}
	req.Raw().Header.Set("Accept", "application/json")
	if err := req.SetBody(streaming.NopCloser(bytes.NewReader(body)), "application/json"); err != nil {
		return nil, fail(err)
	}
	resp, err := c.pipeline.Do(req)
	if err != nil {
		return nil, fail(err)
	}
	defer resp.Body.Close()
	answer, err := runtime.Payload(resp)
	if err != nil {
		return nil, fail(err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fail(refusedLog(resp, answer))
	}
	rows, err := form.parse(answer, from, to)
	if err != nil {
		return nil, fail(err)
	}
	return rows, nil
}

// logTime is a time as queries have it. Pieces begin and end at whole seconds.
func logTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// isGUID keeps what is no workspace's id out of a URL.
func isGUID(s string) bool {
	parts := strings.Split(s, "-")
	if len(parts) != 5 {
		return false
	}
	for i, n := range []int{8, 4, 4, 4, 12} {
		if len(parts[i]) != n || strings.Trim(strings.ToLower(parts[i]), "0123456789abcdef") != "" {
			return false
		}
	}
	return true
}

// logTransport bounds every answer's body.
type logTransport struct{ next policy.Transporter }

func (t logTransport) Do(req *http.Request) (*http.Response, error) {
	resp, err := t.next.Do(req)
	if err == nil && resp.Body != nil {
		resp.Body = &logBody{resp.Body, longestLogBody}
	}
	return resp, err
}

type logBody struct {
	io.ReadCloser
	left int
}

func (b *logBody) Read(p []byte) (int, error) {
	if len(p) > b.left+1 { // one byte over the limit shows that the body is too long
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		b.left = 0
		return n, final{errLogTooMuch}
	}
	return n, err
}
