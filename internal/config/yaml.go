package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds against a hostile file that would exhaust the parser, which recurses and takes
// time quadratic in the number of fields.
const (
	maxLines      = 20_000
	maxLineLength = 2048
	maxFlowDepth  = 16
)

// parse returns the file's one document as a mapping; nil after reporting why
// there is none. An empty file is an empty mapping.
func parse(src source, rep *report) *section {
	top := position{src.name, 1, 1}
	data := bytes.TrimPrefix(src.data, []byte("\ufeff"))
	if !plainText(src.name, data, rep) {
		return nil
	}
	file, err := parseTokens(data, src.name, rep)
	if err != nil {
		rep.addSyntax(top, data, err)
		return nil
	}
	if file == nil {
		return nil
	}
	s := &section{rep: rep, at: top, byName: map[string]field{}}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.NullType:
		case body != nil:
			rep.add(at(src.name, doc.Body, top), "write one document: remove the --- line", "a second YAML document")
		default:
			body = doc.Body
		}
	}
	if body == nil {
		return s
	}
	if !s.readPairs(src.name, body) {
		rep.add(at(src.name, body, top), "write fields such as instance: hq-1", "the file is not a mapping")
		return nil
	}
	return s
}

// plainText refuses text that no configuration needs and that parsers handle badly.
func plainText(name string, data []byte, rep *report) bool {
	ok := true
	for i, line := range bytes.Split(data, []byte("\n")) {
		if i == maxLines {
			rep.add(position{name, i + 1, 1}, "split the file into files in keys.d", "more than %d lines", maxLines)
			return false
		}
		line = bytes.TrimSuffix(line, []byte("\r"))
		where := position{name, i + 1, 1}
		switch {
		case !utf8.Valid(line):
			rep.add(where, "save the file as UTF-8", "this line is not UTF-8")
			return false
		case len(line) > maxLineLength:
			rep.add(where, "break it up", "a line longer than %d bytes", maxLineLength)
			return false
		}
		if col := bytes.IndexFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); col >= 0 {
			rep.add(position{name, i + 1, utf8.RuneCount(line[:col]) + 1}, "remove it", "a control character")
			return false
		}
		ok = slips(where, line, rep) && ok
	}
	return ok
}

// parseTokens checks the tokens, then parses. It turns the parser's panics on broken
// text into errors. It returns nil after reporting a problem.
func parseTokens(data []byte, name string, rep *report) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			file, err = nil, fmt.Errorf("the YAML parser gave up: %v", p)
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if !plainTokens(name, tokens, rep) {
		return nil, nil
	}
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// plainTokens refuses anchors, aliases, merge keys, tags and directives: a value must
// be readable where it stands, and cannot expand without limit.
func plainTokens(name string, tokens token.Tokens, rep *report) bool {
	depth, ok := 0, true
	refuse := func(tk *token.Token, what, remedy string) {
		ok = false
		rep.add(position{name, tk.Position.Line, tk.Position.Column}, remedy, "%s", what)
	}
	for _, tk := range tokens {
		switch tk.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			refuse(
				tk,
				"YAML anchors and aliases are not read",
				"write the value out, and quote text that begins with * or &",
			)
		case token.TagType:
			refuse(tk, "YAML tags are not read", "remove it")
		case token.DirectiveType:
			refuse(tk, "YAML directives are not read", "remove it")
		case token.MappingKeyType:
			refuse(tk, "the YAML key mark ? is not read", "write name: value")
		case token.MappingStartType, token.SequenceStartType:
			if depth++; depth == maxFlowDepth+1 {
				refuse(tk, fmt.Sprintf("brackets more than %d deep", maxFlowDepth), "close them")
			}
		case token.MappingEndType, token.SequenceEndType:
			depth--
		}
	}
	return ok
}

func (r *report) addSyntax(where position, data []byte, err error) {
	var ye yaml.Error
	if !errors.As(err, &ye) {
		r.add(where, "correct the YAML near there", "%v", err)
		return
	}
	if tk := ye.GetToken(); tk != nil && tk.Position != nil {
		where.Line, where.Column = tk.Position.Line, tk.Position.Column
	}
	if column := tabIn(data, where.Line); column > 0 {
		where.Column = column
		r.add(where, "write spaces in its place", "a tab where YAML does not allow one")
		return
	}
	r.add(where, "correct the YAML: check indentation, quotes and brackets near there", "YAML syntax: %s",
		ye.GetMessage())
}

// at returns a node's place. It returns fallback if the node does not know its place,
// or if its token is only punctuation inside it.
func at(file string, n ast.Node, fallback position) position {
	if _, isMap := n.(ast.MapNode); isMap || n == nil || n.Type() == ast.NullType {
		return fallback
	}
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return fallback
	}
	return position{file, tk.Position.Line, tk.Position.Column}
}

// field is one "name: value" of a mapping.
type field struct {
	name string
	at   position // of the name
	node ast.Node
	// inherited: it stands in the section defaults, not here.
	inherited bool
}

// where returns the place of the value.
func (f field) where() position { return at(f.at.File, f.node, f.at) }

// text returns a scalar as written, so that 0123 keeps its zero. ok is false for
// anything else.
func (f field) text() (string, bool) { return scalarText(f.node) }

func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimSuffix(n.Value.Value, "\n"), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}
