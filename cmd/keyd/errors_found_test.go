package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// place is code whose errors can reach a user of the commands.
type place struct {
	files string   // a glob pattern
	in    []string // functions and methods; none: all
	by    []string // calls, by their first argument, and composite literals of types, by their first value
}

// places lists that code. An error that the daemon meets in its own work reaches people through its log, status and
// metrics, which have their own tests.
func places() []place {
	texts := []string{"errors.New", "fmt.Errorf"}
	return []place{
		{"*.go", nil, append(texts, "usagef", "control.UsageError", "control.RefusedError")},
		{"../../internal/control/*.go", nil, []string{"UsageError", "RefusedError"}},
		{"../../internal/control/client.go", nil, texts},
		{"../../internal/control/errors.go", nil, texts},
		{"../../internal/control/follow.go", nil, []string{"fmt.Sprintf"}},
		{"../../internal/control/listen.go", nil, texts},
		{"../../internal/daemon/*.go", nil, []string{"control.UsageError", "control.RefusedError"}},
		{"../../internal/daemon/stateaudit.go", nil, texts},
		{"../../internal/rotate/requests.go", nil, []string{"refuse"}},
		{"../../internal/rotate/adopt.go", nil, []string{"refuse"}},
		{"../../internal/audit/entries.go", []string{"ParseKeys"}, texts},
		{"../../internal/audit/verify.go", []string{"Verify", "header", ""}, texts},
		{"../../internal/audit/receipt.go", []string{"Of"}, texts},
		{"../../internal/audit/export.go", []string{"Error"}, []string{"fmt.Sprintf"}},
		{"../../internal/key/material.go", []string{"ParseSPKI"}, texts},
		{"../../internal/key/name.go", []string{"Error"}, []string{"fmt.Sprintf"}},
		{"../../internal/schedule/hostzone.go", nil, texts},
		{"../../internal/key/checkpoint.go", []string{"ParseMark"}, texts},
		{"../../internal/store/bolt/errors.go", []string{"Error"}, []string{"fmt.Sprintf"}},
		{"../../internal/hsm/listen.go", []string{"Listen", "listenLocked"}, texts},
	}
}

// found is the text of one error as the code has it, with … for each inserted value.
type found struct {
	text    string
	pattern string // matches the text with its values
	letters int    // letters of the text itself
	where   string
}

// findErrors finds the errors in the code.
func findErrors(t *testing.T) (all []found) {
	t.Helper()
	for _, p := range places() {
		files, err := filepath.Glob(p.files)
		if err != nil || len(files) == 0 {
			t.Fatalf("there is no %s: %v", p.files, err)
		}
		before := len(all)
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				all = append(all, p.read(t, file)...)
			}
		}
		if len(all) == before {
			t.Errorf("no error is found in %s any more", p.files)
		}
	}
	return all
}

func (p place) read(t *testing.T, file string) (all []found) {
	t.Helper()
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Decls {
		name := "" // outside of a function
		if f, ok := d.(*ast.FuncDecl); ok {
			name = f.Name.Name
		}
		if len(p.in) > 0 && !slices.Contains(p.in, name) || name == "usagef" || name == "refuse" {
			continue
		}
		ast.Inspect(d, func(n ast.Node) bool {
			if e := p.text(n); e != nil {
				f := found{where: set.Position(n.Pos()).String()}
				f.add(e, false)
				all = append(all, f)
			}
			return true
		})
	}
	return all
}

// text returns the expression of the text from which a node makes an error; nil if it makes none.
func (p place) text(n ast.Node) ast.Expr {
	switch n := n.(type) {
	case *ast.CallExpr:
		if slices.Contains(p.by, nameOf(n.Fun)) {
			return format{n.Args[0]}
		}
	case *ast.CompositeLit:
		if slices.Contains(p.by, nameOf(n.Type)) && len(n.Elts) == 1 {
			if pair, ok := n.Elts[0].(*ast.KeyValueExpr); ok {
				return pair.Value
			}
			return n.Elts[0]
		}
	}
	return nil
}

// format marks an expression whose text has verbs.
type format struct{ ast.Expr }

func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return nameOf(e.X) + "." + e.Sel.Name
	}
	return ""
}

var verb = regexp.MustCompile(`%(\[[0-9]+\])?[a-zA-Z]`)

// add adds an expression to the text. Whatever is not a literal may stand for anything.
func (f *found) add(e ast.Expr, verbs bool) {
	switch e := e.(type) {
	case format:
		f.add(e.Expr, true)
	case *ast.BinaryExpr:
		f.add(e.X, verbs)
		f.add(e.Y, verbs)
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err != nil {
			panic(err)
		}
		if !verbs {
			f.literal(text)
			return
		}
		end := 0
		for _, at := range verb.FindAllStringIndex(text, -1) {
			f.literal(text[end:at[0]])
			f.anything(map[string]string{"%d": `[0-9]+`, "%q": `"[^\n]*"`}[text[at[0]:at[1]]])
			end = at[1]
		}
		f.literal(text[end:])
	case *ast.CallExpr:
		if nameOf(e.Fun) == "fmt.Sprintf" {
			f.add(e.Args[0], true)
			return
		}
		f.anything("")
	default:
		f.anything("")
	}
}

func (f *found) literal(text string) {
	f.text += text
	f.pattern += regexp.QuoteMeta(text)
	for _, r := range text {
		if unicode.IsLetter(r) {
			f.letters++
		}
	}
}

func (f *found) anything(pattern string) {
	if pattern == "" {
		pattern = `(?s:.*)`
	}
	f.text += "…"
	f.pattern += pattern
}

// in reports whether a message contains the whole text: from the beginning of the message or after the prefix of
// another error, to its end or to what another error appended.
func (f found) in(message string) bool {
	return regexp.MustCompile(`(?:^|: |; |\n)` + f.pattern + `(?:$|[:;,] |\n)`).MatchString(message)
}

// file is the base name of the source file.
func (f found) file() string {
	name, _, _ := strings.Cut(filepath.Base(f.where), ":")
	return name
}

func TestAnErrorMatchesOnlyAWholeText(t *testing.T) {
	f := found{}
	f.add(
		format{
			&ast.BinaryExpr{
				X:  &ast.BasicLit{Value: `"there is no key %q; %s"`},
				Op: token.ADD,
				Y:  &ast.BasicLit{Value: "\"`keyd status` lists %d keys\""},
			},
		},
		false,
	)
	if f.text != "there is no key …; …`keyd status` lists … keys" {
		t.Errorf("the text is %s", f.text)
	}
	for message, want := range map[string]bool{
		"there is no key \"a\"; `keyd status` lists 3 keys":                       true,
		"there is no key \"a\"; did you mean b? `keyd status` lists 3 keys":       true,
		"rotate: there is no key \"a\"; `keyd status` lists 3 keys: then go on":   true,
		"there is no key \"a\"; `keyd status` lists":                              false,
		"key \"a\"; `keyd status` lists 3 keys":                                   false,
		"so there is no key \"a\"; `keyd status` lists 3 keys":                    false,
		"there is no key \"a\"; `keyd status` lists some keys":                    false,
		"there is no key a; `keyd status` lists 3 keys":                           false,
		"there is no key \"a\"; `keyd status` lists 3 keys and some more of them": false,
	} {
		if f.in(message) != want {
			t.Errorf("%s: %v, want %v", message, !want, want)
		}
	}
}
