// Package record holds what keyd knows and intends for one key: a Record has Generations, and a Generation has one
// Placement for each import into a vault. Its rule: only this package looks through generations and placements, and
// only its transitions change them. Every other package asks a named question, such as NewestIn or Stage, or applies
// a named change, such as Intend or Prove. A transition checks that the record permits it.
//
// The package also has the plain types of what was seen in the HSM and the vaults for one key. It does no I/O.
package record
