# bash completion for barge: the program itself is asked, and answers with the names of the moment.
_barge() {
    local words=("${COMP_WORDS[@]}") index=$COMP_CWORD line
    # Bash splits at ':' and '='; the word at the cursor is put together again (image:tag, --flag=value).
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n :=@ -w words -i index
    elif declare -F _comp_get_words >/dev/null; then
        _comp_get_words -n :=@ -w words -i index
    fi
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <(COMPLETE=bash BARGE_COMPLETE_INDEX=$index "${COMP_WORDS[0]/#\~/$HOME}" "${words[@]:1}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace
    fi
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "${words[index]}"
    fi
}
complete -o bashdefault -F _barge barge
