// Package record holds what keyd knows and intends of one key: a Record has Generations, a Generation has one
// Placement for each import into a vault. Spares are generations that are made in advance; they stand apart until a
// rotation promotes them. Its rule: only this package looks through generations and placements, and
// only its transitions change them. Everybody else asks a question that has a name, such as NewestIn or Stage, or
// applies a change that has a name, such as Intend or Prove. A transition checks that the record permits it.
//
// The package also has the plain types of what was seen in the HSM and the vaults for one key. It does no I/O.
package record
