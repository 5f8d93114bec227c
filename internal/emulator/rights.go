package emulator

import (
	"fmt"
	"net/http"
	"slices"
)

// right is the permission that an operation needs, in each access mode.
type right struct {
	vault  string // data action after Microsoft.KeyVault/vaults/
	hsm    string // data action after Microsoft.KeyVault/managedHsm/
	policy string // permission of an access policy
}

// rights follow the services' lists of data actions and key permissions.
var rights = map[string]right{
	opCreate:      {"keys/create/action", "keys/create", "create"},
	opImport:      {"keys/import/action", "keys/import/action", "import"},
	opGet:         {"keys/read", "keys/read/action", "get"},
	opVersions:    {"keys/read", "keys/read/action", "list"},
	opList:        {"keys/read", "keys/read/action", "list"},
	opUpdate:      {"keys/update/action", "keys/write/action", "update"},
	opDelete:      {"keys/delete", "keys/delete", "delete"},
	opGetDeleted:  {"keys/read", "keys/deletedKeys/read/action", "get"},
	opListDeleted: {"keys/read", "keys/deletedKeys/read/action", "list"},
	opRecover:     {"keys/recover/action", "keys/deletedKeys/recover/action", "recover"},
	opPurge:       {"keys/purge/action", "keys/deletedKeys/delete", "purge"},
	opRotation:    {"keyrotationpolicies/read", "keys/read/action", "getrotationpolicy"},
	opSetRotation: {"keyrotationpolicies/write", "keys/write/action", "setrotationpolicy"},
	opRotate:      {"keys/rotate/action", "keys/rotate/action", "rotate"},
	opAttestation: {"keys/read", "keys/read/action", "get"},
	opWrap:        {"keys/wrap/action", "keys/wrap/action", "wrapKey"},
	opUnwrap:      {"keys/unwrap/action", "keys/unwrap/action", "unwrapKey"},
	opEncrypt:     {"keys/encrypt/action", "keys/encrypt/action", "encrypt"},
	opDecrypt:     {"keys/decrypt/action", "keys/decrypt/action", "decrypt"},
	opSign:        {"keys/sign/action", "keys/sign/action", "sign"},
	opVerify:      {"keys/verify/action", "keys/verify/action", "verify"},
	opBackup:      {"keys/backup/action", "keys/backup/action", "backup"},
	opRestore:     {"keys/restore/action", "keys/restore/action", "restore"},
	opRelease:     {"keys/release/action", "keys/release/action", "release"},
	opRandom:      {"keys/read", "rng/action", "get"}, // a vault has none, and says so
	opRoles:       {"keys/read", "roleAssignments/read/action", "get"},
	opRoleNames:   {"keys/read", "roleDefinitions/read/action", "get"},
}

func (r right) dataAction(p Profile) string {
	if p == ManagedHSM {
		return r.hsm
	}
	return r.vault
}

func policyPermissions() []string {
	var names []string
	for _, r := range rights {
		names = append(names, r.policy)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// allows reports whether a role has the right that an operation needs.
func (v *Vault) allows(role Role, operation string) bool {
	if actions, custom := v.guard.defined[role]; custom {
		return slices.Contains(actions, rights[operation].dataAction(v.config.Profile))
	}
	reads := []string{opGet, opVersions, opList, opAttestation}
	deleted := []string{opGetDeleted, opListDeleted}
	uses := []string{opWrap, opUnwrap, opEncrypt, opDecrypt, opSign, opVerify}
	roles := []string{opRoles, opRoleNames}
	makes := []string{opCreate, opImport, opUpdate, opDelete, opRotate, opRotation, opSetRotation}
	var allowed []string
	switch {
	case role == CryptoServiceEncryptionUser:
		allowed = slices.Concat(reads, []string{opWrap, opUnwrap})
	case role == CryptoUser && v.config.Profile == ManagedHSM:
		allowed = slices.Concat(reads, uses, makes, deleted, roles, []string{opBackup, opRestore, opRandom})
	case role == CryptoUser:
		allowed = slices.Concat(reads, uses, deleted, []string{opUpdate, opBackup})
	case role == CryptoOfficer && v.config.Profile == ManagedHSM:
		allowed = slices.Concat(deleted, roles, []string{opRecover, opPurge})
	case v.config.Profile == ManagedHSM: // its administrator
		allowed = roles
	default:
		return true
	}
	return slices.Contains(allowed, operation)
}

func (v *Vault) deniedByRole(c caller, r right, scope string) *apiError {
	if v.config.Profile == ManagedHSM {
		return &apiError{
			status: http.StatusForbidden, code: "AccessDenied", inner: "ForbiddenByRbac",
			message: fmt.Sprintf("Not authorized to access Microsoft.KeyVault/managedHsm/%s on %s", r.hsm, scope),
		}
	}
	return forbidden("ForbiddenByRbac", "Caller is not authorized to perform action on resource.\r\n"+
		"If role assignments, deny assignments or role definitions were changed recently, please observe propagation "+
		"time.\r\nCaller: %s\r\nAction: 'Microsoft.KeyVault/vaults/%s'\r\n"+
		"Resource: '%s'\r\n"+
		"Assignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: null \r\nVault: %s;location=%s\r\n",
		c, r.vault, fold(v.ResourceID()+scope), v.name(), v.location())
}

func (v *Vault) deniedByPolicy(c caller, r right) *apiError {
	return forbidden("ForbiddenByPolicy",
		"The user, group or application '%s' does not have keys %s permission on key vault '%s;location=%s'. "+
			"For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287", c, r.policy,
		v.name(), v.location())
}
