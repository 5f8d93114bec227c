//go:build recordings

package recordings

import (
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// differences says how an answer of the emulator differs from the real service's.
func (p *player) differences(c call, got reply) []string {
	if page := "text/html"; strings.HasPrefix(header(c.ResponseHeaders, "Content-Type"), page) &&
		c.StatusCode == got.status {
		return []string{"JSON instead of a page in HTML"}
	}
	var d []string
	if c.StatusCode != got.status {
		d = append(d, fmt.Sprintf("status %d instead of %d", got.status, c.StatusCode))
	}
	for _, name := range []string{
		"WWW-Authenticate", "Content-Type", "Date", "Retry-After", "X-Ms-Request-Id",
		"X-Ms-Keyvault-Rbac-Assignment-Id", "X-Ms-Keyvault-Rbac-Cache",
	} {
		if want, is := headerForm(name, header(c.ResponseHeaders, name)), headerForm(name,
			got.header.Get(name)); want != is {
			d = append(d, fmt.Sprintf("header %s: %q instead of %q", name, is, want))
		}
	}
	if c.StatusCode != got.status {
		return d // the bodies say nothing more
	}
	return append(d, bodies("", c.ResponseBody, got.body)...)
}

func header(all map[string]string, name string) string {
	for n, value := range all {
		if strings.EqualFold(n, name) {
			return value
		}
	}
	return ""
}

var authority = regexp.MustCompile(`https://login\.[a-z.]+/[0-9a-f-]+`)

// headerForm returns the part of a header that a client depends on. It leaves out which of its names the token
// service uses in a challenge: that has changed since 2022.
func headerForm(name, value string) string {
	switch {
	case value == "":
		return ""
	case name == "WWW-Authenticate":
		return authority.ReplaceAllString(value, "https://LOGIN/TENANT")
	case name == "Content-Type":
		return value
	}
	return "given"
}

// bodies compares two JSON values: names, types, and the values that do not vary from call to call. at is the path to
// them.
func bodies(at string, want, got any) []string {
	switch want := want.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); ok {
			return objects(at, want, got)
		}
	case []any:
		if got, ok := got.([]any); ok {
			return arrays(at, want, got)
		}
	case string:
		if got, ok := got.(string); ok {
			if a, b := form(at, want), form(at, got); a != b {
				return []string{fmt.Sprintf("%s: %q instead of %q", at, b, a)}
			}
			return nil
		}
	case float64:
		if _, ok := got.(float64); ok && at != ".attributes.recoverableDays" {
			return nil // a time
		}
	}
	if reflect.DeepEqual(want, got) {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s instead of %s", at, kind(got), kind(want))}
}

func kind(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	default:
		return fmt.Sprintf("%#v", v)
	}
}

func objects(at string, want, got map[string]any) []string {
	var d []string
	names := map[string]bool{}
	for name := range want {
		names[name] = true
	}
	for name := range got {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		w, wanted := want[name]
		g, given := got[name]
		where := at + "." + name
		switch {
		case at == ".value[]" && name == "tags", at == ".value[].attributes" && name == "exportable":
			// The recorded vault also listed other keys than the recorded ones.
		case strings.HasSuffix(at, ".tags"):
			where = at + ".TAG"
			if !reflect.DeepEqual(w, g) {
				d = append(d, where+" differs")
			}
		case !given:
			d = append(d, where+" is missing")
		case !wanted:
			d = append(d, where+" is too much")
		default:
			d = append(d, bodies(where, w, g)...)
		}
	}
	return d
}

// arrays compares operations as sets, the items of a listing one by one as far as both have some (their number
// depends on what else was in the recorded vault), and other arrays whole.
func arrays(at string, want, got []any) []string {
	switch {
	case strings.HasSuffix(at, ".key_ops"):
		sorted := func(all []any) []string {
			var texts []string
			for _, each := range all {
				texts = append(texts, fmt.Sprint(each))
			}
			return slices.Sorted(slices.Values(texts))
		}
		if w, g := sorted(want), sorted(got); !slices.Equal(w, g) {
			return []string{fmt.Sprintf("%s: %v instead of %v", at, g, w)}
		}
		return nil
	case at == ".value":
		want, got = want[:min(len(want), len(got))], got[:min(len(want), len(got))]
	case len(want) != len(got):
		return []string{fmt.Sprintf("%s: %d instead of %d", at, len(got), len(want))}
	}
	var d []string
	for i := range want {
		d = append(d, bodies(at+"[]", want[i], got[i])...)
	}
	slices.Sort(d)
	return slices.Compact(d)
}

var (
	hexVersion = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
	activity   = regexp.MustCompile(`\(Activity ID: [0-9a-f-]+\)`)
	urlHost    = regexp.MustCompile(`https://[^/':]+`)
	skipToken  = regexp.MustCompile(`\$skiptoken=[A-Za-z0-9_-]+`)
	otherKey   = regexp.MustCompile(`/(keys|deletedkeys)/[0-9A-Za-z-]+`)
)

// form returns the part of a text that is the same in every call.
func form(at, text string) string {
	last := at[strings.LastIndex(at, ".")+1:]
	switch last {
	case "n", "x", "y":
		b, err := base64.RawURLEncoding.DecodeString(text)
		return fmt.Sprintf("%d bytes, %v", len(b), err)
	case "data", "value":
		if strings.Count(text, ".") == 2 {
			return "a JWS"
		}
		_, err := base64.RawURLEncoding.DecodeString(text)
		return fmt.Sprintf("base64url, %v", err)
	}
	text = urlHost.ReplaceAllString(text, "https://HOST")
	text = hexVersion.ReplaceAllString(text, "VERSION")
	text = activity.ReplaceAllString(text, "(Activity ID: ID)")
	text = skipToken.ReplaceAllString(text, "$$skiptoken=TOKEN")
	if strings.HasPrefix(at, ".value[]") {
		text = otherKey.ReplaceAllString(text, "/$1/NAME")
	}
	return text
}
