//go:build consumers

package consumers

import (
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/emulator"
)

// The HSM's calls have no tight limit: SoftHSM does not run on the fast clock.
const commonSections = `instance: consumers
state_dir: %[1]s/state
hsm: {module: %[2]s, token: %[3]q, pin_file: %[4]s, call_timeout: 10m, generate_timeout: 1h}
azure: {credential: managed-identity, ca_file: %[1]s/ca.pem}
control: {socket: %[1]s/keyd.sock}
web: {listen: "127.0.0.1:0"}
health: {look: 1m}
vaults:
  weu: {url: https://` + loggedHost + `, kek: {bits: 2048, trust: first-use}, evidence: {workspace: ` +
	emulator.DefaultWorkspaceID + `}}
  neu: {url: https://` + unloggedHost + `, kek: {bits: 2048, trust: first-use}}
  clean: {url: https://` + cleanHost + `, kek: {bits: 2048, trust: first-use}, evidence: {workspace: ` +
	emulator.DefaultWorkspaceID + `}}
keys:
`

// keySection is a key: its name, its vault, its consumers, and its retire rule.
const keySection = `  %s:
    spec: RSA-2048
    vaults: [%s]
    floor: 0s
    budget: 1000
    consumers: %s
    retire: {pause: 1m, %s}
`

func (w *world) configuration(keys string) string {
	return fmt.Sprintf(commonSections, w.dir, w.token.Module, w.token.Label, w.token.PINFile) + keys
}

// listed are consumers as the configuration names them; keyd moves those that are pinned.
func (w *world) listed(names ...string) string {
	var b strings.Builder
	all := w.described()
	for _, name := range names {
		follow := "service"
		name, pinned := strings.CutSuffix(name, "@")
		if pinned {
			follow = "keyd"
		}
		fmt.Fprintf(&b, "\n      - {id: %s, follow: %s}", all[name].ID, follow)
	}
	return b.String()
}
