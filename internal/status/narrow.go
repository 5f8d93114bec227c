package status

import (
	"slices"

	"github.com/keyd-project/keyd/internal/key"
)

// Narrows reports whether a selection is about a part of the keys only.
func (sel Selection) Narrows() bool { return len(sel.Labels) > 0 || sel.Vault != "" || sel.Troubled }

// narrow leaves what the selection is about: keys, the vaults they are in, and the problems of both. What is of no key
// and of no vault, such as the HSM's trouble, is about all of them.
func (s *Snapshot) narrow(sel Selection) {
	if !sel.Narrows() {
		return
	}
	if sel.Vault != "" {
		s.Vaults = slices.DeleteFunc(s.Vaults, func(v Vault) bool { return !key.SameName(v.Name, sel.Vault) })
	}
	left, in := map[string]bool{}, map[string]bool{} // keys by name, and the URLs of their vaults
	troubled := s.inProblems()
	s.Keys = slices.DeleteFunc(s.Keys, func(k Key) bool {
		is := k.hasAll(sel.Labels) && (sel.Vault == "" || s.hasAnyOf(k.Vaults)) &&
			(!sel.Troubled || !k.Calm() || troubled[k.Name])
		if left[k.Name] = is; is {
			for _, url := range k.Vaults {
				in[url] = true
			}
		}
		return !is
	})
	if len(sel.Labels) > 0 {
		s.Vaults = slices.DeleteFunc(s.Vaults, func(v Vault) bool { return !in[v.URL] })
	}
	shown := map[string]bool{} // vaults by nickname
	for _, v := range s.Vaults {
		shown[v.Name] = true
	}
	s.Problems = slices.DeleteFunc(s.Problems, func(p Problem) bool {
		if p.Key != "" && !left[p.Key] {
			return true
		}
		// A key's problem may be of a vault that the configuration no longer has.
		return p.Vault != "" && !shown[p.Vault] && (p.Key == "" || sel.Vault != "")
	})
	s.Summarise()
}

// inProblems has the keys that a problem names.
func (s *Snapshot) inProblems() map[string]bool {
	names := map[string]bool{}
	for _, p := range s.Problems {
		names[p.Key] = true
	}
	return names
}

// hasAnyOf reports whether the snapshot has a vault with one of these URLs.
func (s *Snapshot) hasAnyOf(urls []string) bool {
	return slices.ContainsFunc(s.Vaults, func(v Vault) bool { return slices.Contains(urls, v.URL) })
}

func (k Key) hasAll(labels []string) bool {
	return !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(k.Labels, l) })
}
