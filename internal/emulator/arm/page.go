package arm

import (
	"net/http"
	"net/url"
	"strconv"
)

// page answers a list, of which a page has at most Config.PageSize resources, or as many as $maxpagesize says.
func (s *Service) page(r Request, found []document) (Response, error) {
	size := s.cfg.PageSize
	if asked := r.Query.Get("$maxpagesize"); asked != "" {
		n, err := strconv.Atoi(asked)
		if err != nil || n < 1 {
			return Response{}, refuse(http.StatusBadRequest, "InvalidQueryParameterValue",
				"The value %q of $maxpagesize is not a number above 0.", asked)
		}
		size = min(size, n)
	}
	from := 0
	if token := r.Query.Get("$skipToken"); token != "" {
		var err error
		if from, err = strconv.Atoi(token); err != nil || from < 0 || from > len(found) {
			return Response{}, refuse(
				http.StatusBadRequest,
				"InvalidSkipToken",
				"The skip token %q is not one of mine.",
				token,
			)
		}
	}
	to := min(len(found), from+size)
	body := map[string]any{"value": found[from:to]}
	if to < len(found) {
		next := url.Values{}
		for name, values := range r.Query {
			next[name] = values
		}
		next.Set("$skipToken", strconv.Itoa(to))
		body["nextLink"] = s.origin() + r.Path + "?" + next.Encode()
	}
	return Response{Status: http.StatusOK, Body: body}, nil
}
