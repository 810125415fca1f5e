# fish completion for barge: the program itself is asked, and answers with the names of the moment.
function __barge_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -lx COMPLETE fish
    set -lx BARGE_COMPLETE_INDEX (count $words)
    set -l answers ($words[1] $words[2..-1] $current 2>/dev/null)
    if test (count $answers) -gt 0
        printf '%s\n' $answers
    else
        __fish_complete_path $current
    end
end
complete -c barge -f -a '(__barge_complete)'
