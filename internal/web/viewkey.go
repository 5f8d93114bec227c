package web

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// keyPage is what key.html shows.
type keyPage struct {
	frame
	Key         keyView
	Problems    []problemGroup
	Schedule    string
	Abandoned   int
	Generations []generationView
}

type generationView struct {
	Number                          int
	Caption, Fingerprint, Requester string
	Placements                      []placementView
}

type placementView struct{ Vault, Version, State, Proof string }

// viewOneKey builds the page of one key. ok is false if there is no such key.
func viewOneKey(s status.Snapshot, name string) (p keyPage, ok bool) {
	k, ok := s.Key(name)
	if !ok {
		return p, false
	}
	vaults := map[string]string{}
	for _, v := range s.Vaults {
		vaults[v.URL] = v.Name
	}
	p = keyPage{frame: frame{s.Instance, s.Version, s.At}, Key: viewKey(s.At, k, vaults), Schedule: k.Schedule,
		Abandoned: k.Abandoned}
	p.Key.Timeline = drawTimeline(s.At, k, pageLanes)
	s.Problems = slices.DeleteFunc(slices.Clone(s.Problems), func(p status.Problem) bool { return !p.About(k.Name) })
	p.Problems = groupProblems(s)
	for _, g := range slices.Backward(k.Generations) {
		p.Generations = append(p.Generations, viewGeneration(s.At, g, k.Proofs))
	}
	return p, true
}

func viewGeneration(now time.Time, g status.Generation, proofs []status.Proof) generationView {
	v := generationView{Number: g.Number, Caption: captionOf(now, g), Fingerprint: g.Fingerprint.Short(),
		Requester: g.Requester}
	for _, at := range g.Placements {
		pv := placementView{Vault: at.VaultName, Version: short(at.Version), State: string(at.State), Proof: "none yet"}
		if !at.ProvenAt.IsZero() {
			pv.Proof = "passed " + day(now, at.ProvenAt)
		}
		for _, proof := range proofs {
			if proof.Vault == at.Vault && proof.Version == at.Version && proof.Outcome != "" {
				pv.Proof = string(proof.Outcome) + " " + relative(now, proof.At)
				if proof.Leg != "" {
					pv.Proof += ", at " + legWords(proof)
				}
			}
		}
		v.Placements = append(v.Placements, pv)
	}
	return v
}
