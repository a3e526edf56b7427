// Package text prints a rules.Ruleset as the tools of a node do, and reads what they print.
//
//	iptables-save, iptables-restore  Save, Restore   ParseSave
//	nft                              NFT             ParseNFTJSON, of nft -j list ruleset
//	ipset                            IPSet           ParseIPSet
//	ipvsadm                          IPVSAdm         ParseIPVSAdm
//
// SaveRule, NFTRule, NFTElem and IPSetElem print a single rule or element, for a trace and a comparison.
//
// The parsers are strict: what they do not know is an error that names it and its line, as a rule that is half understood
// would let a walk end in the wrong place.
package text
