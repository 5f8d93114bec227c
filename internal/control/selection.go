package control

import (
	"net/url"

	"github.com/keyd-project/keyd/internal/status"
)

// The parameters of a snapshot. Pages and searches are the web page's, which asks without a socket.
const (
	paramOnly     = "key"   // may be repeated
	paramLabel    = "label" // may be repeated
	paramVault    = "vault"
	paramTroubled = "troubled"
	paramFew      = "few"
	paramBrief    = "brief"

	// maxOnly is how many names fit into a request.
	maxOnly = 100
)

// selectionQuery is what a request adds to the path of the snapshot.
func selectionQuery(sel status.Selection) string {
	query := url.Values{}
	if len(sel.Only) <= maxOnly {
		query[paramOnly] = sel.Only
	}
	if len(sel.Labels) > 0 {
		query[paramLabel] = sel.Labels
	}
	if sel.Vault != "" {
		query.Set(paramVault, sel.Vault)
	}
	if sel.Troubled {
		query.Set(paramTroubled, "1")
	}
	if sel.Few {
		query.Set(paramFew, "1")
	}
	if sel.Brief {
		query.Set(paramBrief, "1")
	}
	if text := query.Encode(); text != "" {
		return "?" + text
	}
	return ""
}

func parseSelection(query url.Values) (status.Selection, error) {
	sel := status.Selection{
		Only: query[paramOnly], Labels: query[paramLabel], Vault: query.Get(paramVault),
		Troubled: query.Get(paramTroubled) != "", Few: query.Get(paramFew) != "", Brief: query.Get(paramBrief) != "",
	}
	for _, name := range sel.Only {
		if err := checkName(name); err != nil {
			return sel, err
		}
	}
	return sel, nil
}
