package emulator

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

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
	case "Assign", "Unassign", "SetAccessPolicy", "SetFirewall", "SetAccess", "EnablePurgeProtection":
	default:
		return e.meddleAzure(q)
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
	case "SetAccess":
		m, err := ParseAccessMode(q.What)
		if err == nil {
			v.SetAccess(m)
		}
		return err
	case "EnablePurgeProtection":
		v.EnablePurgeProtection()
		return nil
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

// meddleAzure changes who may do what in Azure, outside the vaults.
func (e *Emulator) meddleAzure(q meddleRequest) (handled bool, err error) {
	switch q.Do {
	case "AssignAt", "UnassignAt":
		a, err := ParseAzureRole(q.What)
		if err != nil {
			return true, err
		}
		if q.Do == "AssignAt" {
			return true, e.consumers.Assign(a)
		}
		return true, e.consumers.Unassign(a)
	case "DefineRole":
		r, err := ParseRoleDefinition(q.What)
		if err == nil {
			e.consumers.DefineRole(r)
		}
		return true, err
	case "Deny":
		d, err := ParseDenyAssignment(q.What)
		if err == nil {
			e.consumers.Deny(d)
		}
		return true, err
	case "SetGroup":
		group, members, ok := strings.Cut(q.What, "=")
		if !ok {
			return true, fmt.Errorf("group %q: write GROUP=MEMBER,MEMBER", q.What)
		}
		e.consumers.SetGroup(group, split(members)...)
		return true, nil
	case "Misdirect":
		e.consumers.Misdirect(q.What)
		return true, nil
	case "DeleteIdentity":
		return true, e.consumers.DeleteIdentity(q.What)
	case "LoseLogs", "HoldLogs", "TruncateLogs", "SetLogTables":
		return true, e.logs.meddle(q)
	}
	return false, nil
}

// meddle changes what reaches the workspace.
func (l *Logs) meddle(q meddleRequest) error {
	switch q.Do {
	case "TruncateLogs":
		rows, err := strconv.Atoi(q.What)
		if err == nil {
			l.Truncate(rows)
		}
		return err
	case "SetLogTables":
		var tables []LogTable
		for _, name := range split(q.What) {
			if name != string(AzureDiagnostics) && name != string(AZKVAuditLogs) {
				return fmt.Errorf("unknown table %q: write %s or %s", name, AzureDiagnostics, AZKVAuditLogs)
			}
			tables = append(tables, LogTable(name))
		}
		l.SetTables(tables...)
		return nil
	}
	when, text, _ := strings.Cut(q.What, "=")
	from, to, _ := strings.Cut(when, "/")
	during, err := parseInterval(from, to)
	if err != nil {
		return err
	}
	if q.Do == "LoseLogs" {
		l.Lose(during.from, during.to)
		return nil
	}
	by, err := time.ParseDuration(text)
	if err == nil {
		l.Hold(during.from, during.to, by)
	}
	return err
}
