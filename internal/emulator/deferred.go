package emulator

import "sync"

// deferred is material from a state file. It is parsed on first use, because parsing
// twenty thousand RSA keys at the start would take longer than most runs last.
type deferred struct {
	kind   string
	public jsonWebKey
	raw    []byte
	parse  func() (material, error)
}

func newDeferred(kind string, public jsonWebKey, raw []byte) *deferred {
	return &deferred{kind, public, raw, sync.OnceValues(func() (material, error) {
		if public.Crv == curveK1 {
			return newK1Key(raw)
		}
		return parseMaterial(kind, raw)
	})}
}

func (d *deferred) load() (material, error) { return d.parse() }

func (d *deferred) family() string { return d.kind }

func (d *deferred) operations() []string {
	return map[string]material{"RSA": &rsaKey{}, "EC": &ecKey{}, "oct": &octKey{}}[d.kind].operations()
}

func (d *deferred) show(k *jsonWebKey) {
	k.N, k.E, k.Crv, k.X, k.Y = d.public.N, d.public.E, d.public.Crv, d.public.X, d.public.Y
}

func (d *deferred) another() (material, error) {
	m, err := d.load()
	if err != nil {
		return nil, err
	}
	return m.another()
}

func (d *deferred) compute(operation string, q operationRequest) (operationResult, error) {
	m, err := d.load()
	if err != nil {
		return operationResult{}, err
	}
	return m.compute(operation, q)
}

func (d *deferred) verify(algorithm string, digest, signature []byte) (bool, error) {
	m, err := d.load()
	if err != nil {
		return false, err
	}
	return m.verify(algorithm, digest, signature)
}

func (d *deferred) marshal() ([]byte, error) { return d.raw, nil }
