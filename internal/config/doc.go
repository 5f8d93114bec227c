// Package config turns keyd's YAML files into policies. Its rule: strict YAML
// in, policies out, and every error at once, each with file, line, column and
// what to write instead.
package config
