package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// maxSearch is how much of a search counts, in bytes: no name is longer.
const maxSearch = 127

// pagesView is one page of the keys that were searched for.
type pagesView struct {
	Search        string
	Words         string // how many keys there are, and how they are
	Page, Of      int
	Before, After string // addresses; "" for none
}

// selectionOf is the page of keys that a request asks for. One that makes no sense is the first.
func selectionOf(r *http.Request) status.Selection {
	query := r.URL.Query()
	page, err := strconv.Atoi(query.Get("page"))
	if err != nil {
		page = 1
	}
	search := query.Get("q")
	return status.Selection{Page: max(1, page), Search: search[:min(len(search), maxSearch)]}
}

// viewPages is nil where every key has room on one page.
func viewPages(sum status.Summary, sel status.Selection) *pagesView {
	if sum.Keys <= status.FewKeys {
		return nil
	}
	v := &pagesView{Search: sel.Search, Of: sum.Pages()}
	v.Page = min(max(1, sel.Page), v.Of)
	v.Words = words.Count(sum.Keys, "key") + ": " + statesWords(sum.States) + "."
	if sel.Search != "" {
		v.Words = fmt.Sprintf("%s found with “%s” in the name, of %s",
			words.Count(sum.Found, "key"), sel.Search, v.Words)
	}
	if v.Page > 1 {
		v.Before = pageAddress(sel.Search, v.Page-1)
	}
	if v.Page < v.Of {
		v.After = pageAddress(sel.Search, v.Page+1)
	}
	return v
}

func pageAddress(search string, page int) string {
	query := url.Values{"page": {strconv.Itoa(page)}}
	if search != "" {
		query.Set("q", search)
	}
	return "/?" + query.Encode() + "#keys"
}

// statesWords counts keys by state, in the page's order of states.
func statesWords(counts map[string]int) string {
	var parts []string
	for _, s := range states {
		if n := counts[s.state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s.words))
		}
	}
	return strings.Join(parts, ", ")
}
