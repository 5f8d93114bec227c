package daemon

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/control"
)

func TestAReloadRefusesAFileThatTheNextStartWouldRefuse(t *testing.T) {
	d, path := newDaemon(t)
	edit(t, path, "azure: {credential: managed-identity}", "azure: {credential: managed-identity, ca_file: /none.pem}")
	err := d.Reload(t.Context(), "uid 0 (root)")
	var usage *control.UsageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), "keyd.yaml:4:48: azure.ca_file: open /none.pem") {
		t.Errorf("the reload answers %T: %v", err, err)
	}
}
