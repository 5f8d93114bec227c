// Package docs holds the pages that keyd itself serves. Its rule: text only.
package docs

import _ "embed"

// Runbooks is runbooks.md (GitHub's Markdown): a section for each alert, hold and
// kind of drift.
//
//go:embed runbooks.md
var Runbooks string
