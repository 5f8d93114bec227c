package vault

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzParseServiceError(f *testing.F) {
	for _, seed := range []string{
		`{"error":{"code":"Forbidden","message":"no","innererror":{"code":"ForbiddenByRbac"}}}`,
		`{"error":{"code":"KeyNotFound","message":"a\nb"}}`, `{"error":"x"}`, `{"error":{"innererror":[]}}`,
		`[]`, ``, `<html>`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := parseServiceError(body)
		for _, s := range []string{got.Code, got.Inner, got.Message} {
			if strings.ContainsAny(s, "\r\n\x1b") || utf8.RuneCountInString(s) > longestMessage+1 {
				t.Errorf("%q does not fit a log line", s)
			}
		}
	})
}

func FuzzSafeChallenge(f *testing.F) {
	f.Add(`Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"`)
	f.Add(`Bearer authorization="https://host"`)
	f.Fuzz(func(t *testing.T, header string) {
		if !safeChallenge(header) {
			return
		}
		// What azkeys does with it.
		for _, part := range strings.Split(strings.ReplaceAll(header, "Bearer ", ""), " ") {
			sub := strings.Split(part, "=")
			if len(sub) != 2 || sub[0] != "authorization" {
				continue
			}
			authority := strings.TrimSuffix(strings.ReplaceAll(sub[1], `"`, ""), ",")
			if authority != "" && len(strings.Split(authority, "/")) < 4 {
				t.Errorf("%q would panic", header)
			}
		}
	})
}

func TestTheInnerErrorIsRead(t *testing.T) {
	got := parseServiceError([]byte(
		`{"error":{"code":"Forbidden","message":"Caller is not\r\nauthorized",` +
			`"innererror":{"code":"ForbiddenByRbac"}}}`,
	))
	if want := (serviceError{"Forbidden", "ForbiddenByRbac", "Caller is not authorized"}); got != want {
		t.Errorf("got %+v", got)
	}
	if got := parseServiceError(
		[]byte(`{"error":{"code":"KeyNotFound","innererror":null}}`),
	); got.Code != "KeyNotFound" {
		t.Errorf("got %+v", got)
	}
}

func TestOperationsAreDistinctInMetrics(t *testing.T) {
	seen := map[string]bool{}
	for _, op := range []operation{opGetKEK, opCreateKEK, opImport, opVersions, opNewest, opGet, opWrap, opUnwrap,
		opEncrypt, opDecrypt, opSign, opVerify, opDisable, opEnable, opDeleted, opRecover} {
		if seen[op.name] {
			t.Errorf("%s appears twice", op.name)
		}
		seen[op.name] = true
	}
}
