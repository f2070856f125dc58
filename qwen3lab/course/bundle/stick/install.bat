@echo off
rem Installs qwen3lab from this folder without a network, on Windows: install.bat [FOLDER]
setlocal
for %%V in (3.13 3.12 3.11 3.10) do (
    findstr /c:"\"python\": \"%%V\"" "%~dp0bundle.json" >nul 2>nul && (
        py -%%V -c "" >nul 2>nul && (
            py -%%V "%~dp0install.py" %*
            goto end
        )
    )
)
python -c "" >nul 2>nul && (
    python "%~dp0install.py" %*
    goto end
)
echo Not installed: there is no fitting Python. Install one (see README.txt), and run this again.
:end
pause
