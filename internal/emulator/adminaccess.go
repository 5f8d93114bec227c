package emulator

import "fmt"

// meddleAccess changes access rules. handled reports whether the request was one of
// these. What has the form that the Parse functions parse.
func (e *Emulator) meddleAccess(q meddleRequest) (handled bool, err error) {
	switch q.Do {
	case "RevokeTokens":
		e.RevokeTokens(q.What)
		return true, nil
	case "SetIdentity":
		i, err := ParseIdentity(q.What)
		if err == nil {
			e.SetIdentity(i)
		}
		return true, err
	case "Assign", "Unassign", "SetAccessPolicy", "SetFirewall":
	default:
		return false, nil
	}
	v := e.Vault(q.Host)
	if v == nil {
		return true, fmt.Errorf("there is no vault %q", q.Host)
	}
	return true, v.meddleAccess(q)
}

func (v *Vault) meddleAccess(q meddleRequest) error {
	switch q.Do {
	case "SetFirewall":
		f, err := ParseFirewall(q.What)
		if err == nil {
			v.SetFirewall(f)
		}
		return err
	case "SetAccessPolicy":
		p, err := ParseAccessPolicy(q.What)
		if err != nil {
			return err
		}
		return v.SetAccessPolicy(p)
	}
	a, err := ParseRoleAssignment(q.What)
	if err != nil {
		return err
	}
	if q.Do == "Assign" {
		return v.Assign(a)
	}
	return v.Unassign(a)
}
